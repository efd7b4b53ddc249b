#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes an archive of an image with many layers: layered_image.py LAYOUT TAG OUT NAME LAYERS

The image TAG of an OCI layout is the first layer. The second one brings /t with one of everything
that a layer can have, the third removes and replaces some of it, and each of the others adds a file
of its own and replaces one of those before it. Images of other names share the first layer only.
"""
import gzip
import hashlib
import io
import json
import sys
import tarfile

CAP_NET_RAW = "\x01\0\0\x02\0\x20" + 14 * "\0"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


class Layer:
    def __init__(self):
        self.data = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.data, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, text=b"", mode=0o644, uid=0, gid=0, **more):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, gid, 1000000000
        info.size = len(text)
        for key, value in more.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(text))

    def bytes(self):
        self.tar.close()
        return self.data.getvalue()


def everything(name, busybox):
    layer = Layer()
    layer.add("t", tarfile.DIRTYPE, mode=0o755)
    layer.add("t/name", text=name.encode())
    layer.add("t/hidden", text=b"must not be seen\n")
    layer.add("t/dir", tarfile.DIRTYPE, mode=0o755)
    layer.add("t/dir/old", text=b"must not be seen\n")
    layer.add("t/hard1", text=b"one file\n")
    layer.add("t/hard2", tarfile.LNKTYPE, linkname="t/hard1")
    layer.add("t/owned", text=b"x", mode=0o4755, uid=1234, gid=70000)
    layer.add("t/link", tarfile.SYMTYPE, linkname="hard1")
    layer.add("t/fifo", tarfile.FIFOTYPE)
    layer.add("t/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    layer.add("t/busybox", text=busybox, mode=0o755,
              pax_headers={"SCHILY.xattr.security.capability": CAP_NET_RAW})
    return layer.bytes()


def changes():
    layer = Layer()
    layer.add("t/.wh.hidden")
    layer.add("t/dir", tarfile.DIRTYPE, mode=0o755)
    layer.add("t/dir/.wh..wh..opq")
    layer.add("t/dir/new", text=b"new\n")
    return layer.bytes()


def numbered(i):
    layer = Layer()
    layer.add("many", tarfile.DIRTYPE, mode=0o755)
    layer.add(f"many/{i}", text=b"%d\n" % i)
    layer.add("many/last", text=b"%d\n" % i)
    return layer.bytes()


class Layout:
    def __init__(self, path):
        self.path = path

    def blob(self, descriptor):
        with open(f"{self.path}/blobs/{descriptor['digest'].replace(':', '/')}", "rb") as f:
            return f.read()

    def manifest(self, tag):
        with open(f"{self.path}/index.json", encoding="utf-8") as f:
            index = json.load(f)
        for d in index["manifests"]:
            if d.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag:
                return json.loads(self.blob(d))
        raise SystemExit(f"no {tag} in {self.path}")


def busybox_of(layer):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        for info in tar:
            if info.name.lstrip("./") == "bin/busybox":
                return tar.extractfile(info).read()
    raise SystemExit("the first layer has no bin/busybox")


class Archive:
    def __init__(self, path):
        self.tar = tarfile.open(path, "w")

    def add(self, name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))

    def blob(self, media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        self.add(f"blobs/sha256/{digest}", data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def main(layout, tag, out, name, n_layers):
    source = Layout(layout)
    manifest = source.manifest(tag)
    config = json.loads(source.blob(manifest["config"]))
    first = source.blob(manifest["layers"][0])
    added = [everything(name, busybox_of(first)), changes()]
    added += [numbered(i) for i in range(4, int(n_layers) + 1)]
    archive = Archive(out)
    layers = [archive.blob(manifest["layers"][0]["mediaType"], first)]
    layers += [archive.blob(LAYER_TYPE, data) for data in added]
    config["rootfs"]["diff_ids"] = config["rootfs"]["diff_ids"][:1] + [
        "sha256:" + hashlib.sha256(data).hexdigest() for data in added]
    config.pop("history", None)
    manifest["config"] = archive.blob(manifest["config"]["mediaType"], json.dumps(config).encode())
    manifest["layers"] = layers
    index = archive.blob("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode())
    index["annotations"] = {"io.containerd.image.name": name}
    archive.add("index.json", json.dumps({"schemaVersion": 2, "manifests": [index]}).encode())
    archive.add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    archive.tar.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
