# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of images: what converting them costs, how long a start takes with 1, 10 and 100 layers,
and how much of the host's page cache pods of one image share.

Images of many layers are the test image `base` with small layers on top (tests/e2e/layered_image.py).
Starts are `ctr run --rm` of `true` with layers that have been converted before; runc's are beside them,
in turns.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
E2E = f"{HERE}/../tests/e2e"
BUILD, SAMPLES = sys.argv[1], int(sys.argv[2])
RUNTIMES = {"podvm": "io.containerd.podvm.v2", "runc": "io.containerd.runc.v2"}
LAYERS = (1, 10, 100)
PODS = 10
results = {}


def show(key, text, value, unit):
    results[key] = {"value": value, "unit": unit}
    print(f"  {text:<60} {value:>10,.1f} {unit}", flush=True)


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs).stdout


class Bed:
    """A containerd and a configuration of our own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        os.chmod(self.dir, 0o711)
        self.images = run(f"{E2E}/images.sh").strip().splitlines()[-1]
        for name, verity in (("podvm", "no"), ("verity", "yes")):
            with open(f"{self.dir}/{name}.conf", "w", encoding="utf-8") as f:
                f.write(f"[paths]\nimage={BUILD}/image\nstate={self.dir}/run\n"
                        f"cache={self.dir}/cache\n[vm]\nmemory=128M\n[start]\nboot_timeout=300s\n"
                        f"agent_timeout=300s\n[log]\nlevel=info\n[image]\nverity={verity}\n")
            os.chmod(f"{self.dir}/{name}.conf", 0o600)
        with open(f"{self.dir}/config.toml", "w", encoding="utf-8") as f:
            f.write(f'version = 2\nroot = "{self.dir}/root"\nstate = "{self.dir}/state"\n'
                    f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                    f'[grpc]\n  address = "{self.dir}/c.sock"\n')
        self.env = dict(os.environ, PODVM_CONFIG=f"{self.dir}/podvm.conf",
                        PATH=f"{BUILD}/src/shim:{os.environ['PATH']}")
        with open(f"{self.dir}/log", "w", encoding="utf-8") as log:
            self.containerd = subprocess.Popen(
                ["containerd", "-c", f"{self.dir}/config.toml"], env=self.env, stdout=log,
                stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        while not os.path.exists(f"{self.dir}/c.sock"):
            time.sleep(0.1)

    def ctr(self, *args):
        return run("ctr", "-a", f"{self.dir}/c.sock", *args)

    def podvm(self, *args, config="podvm"):
        return run(f"{BUILD}/src/cli/podvm", *args,
                   env=dict(self.env, PODVM_CONFIG=f"{self.dir}/{config}.conf"))

    def load(self, source, name):
        run("skopeo", "copy", "-q", source, f"oci-archive:{self.dir}/image.tar:{name}")
        self.ctr("image", "import", f"{self.dir}/image.tar")

    def load_layered(self, n):
        name = f"registry.local/layers:{n}"
        if n == 1:
            self.load(f"oci:{self.images}/oci:base", name)
        else:
            run("/usr/bin/python3", f"{E2E}/layered_image.py", f"{self.images}/oci", "base",
                f"{self.dir}/image.tar", name, str(n))
            self.ctr("image", "import", f"{self.dir}/image.tar")
        return name

    def conversions(self):
        """(layers, bytes, ms) of every one so far."""
        with open(f"{self.dir}/log", encoding="utf-8", errors="replace") as f:
            return [tuple(map(int, m)) for m in re.findall(
                r"a layer was converted.*?layers=(\d+) bytes=(\d+) ms=(\d+)", f.read())]

    def close(self):
        self.containerd.terminate()
        self.containerd.wait()
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)


def timed(fn, *args, **kwargs):
    start = time.monotonic()
    fn(*args, **kwargs)
    return time.monotonic() - start


def pull(bed, config):
    """Seconds, and bytes of the file, of one conversion of the test image `debian`."""
    seconds = timed(bed.podvm, "image", "pull", f"oci:{bed.images}/oci:debian", config=config)
    size = json.loads(bed.podvm("image", "ls", "--json"))[0]["size"]
    bed.podvm("image", "prune", "--all")
    return seconds, size


def conversion(bed):
    for config, text in (("podvm", "podvm image pull"), ("verity", "... with a hash tree")):
        runs = [pull(bed, config) for _ in range(3)]
        seconds = statistics.median(r[0] for r in runs)
        show(f"pull_{config}", f"{text}: {runs[0][1] / 1e6:.0f} MB in one layer", seconds, "s")
        show(f"pull_{config}_rate", "...", runs[0][1] / 1e6 / seconds, "MB/s")
    bed.load(f"oci:{bed.images}/oci:debian", "registry.local/debian:1")
    bed.ctr("run", "--rm", "--runtime", RUNTIMES["podvm"], "registry.local/debian:1", "c", "true")
    _, size, ms = bed.conversions()[-1]
    show("layer_rate", f"a layer of containerd's, {size / 1e6:.0f} MB in {ms} ms",
         size / 1e3 / max(ms, 1), "MB/s")


def start(bed, runtime, image, *options):
    return timed(bed.ctr, "run", "--rm", "--runtime", RUNTIMES[runtime], *options, image,
                 f"c{time.monotonic_ns()}", "true") * 1000


def starts(bed):
    images = {n: bed.load_layered(n) for n in LAYERS}
    verity = ("--runtime-config-path", f"{bed.dir}/verity.conf")
    for n, image in images.items():
        before = len(bed.conversions())
        start(bed, "podvm", image)
        made = bed.conversions()[before:]
        show(f"convert_{n}", f"{n} layers: conversion, {len(made)} files", sum(m[2] for m in made),
             "ms")
        start(bed, "podvm", image, *verity)
    samples = {}
    for _ in range(SAMPLES):
        for n, image in images.items():
            samples.setdefault(("podvm", n), []).append(start(bed, "podvm", image))
            samples.setdefault(("verity", n), []).append(start(bed, "podvm", image, *verity))
            samples.setdefault(("runc", n), []).append(start(bed, "runc", image))
    for (kind, n), values in samples.items():
        show(f"start_{kind}_{n}", f"{n} layers: start, {kind}", statistics.median(values), "ms")


def cached(bed):
    """Bytes of the cache's files that the host's page cache has."""
    files = run("find", f"{bed.dir}/cache/snapshots", "-name", "layer.erofs").split()
    out = run("fincore", "--bytes", "--noheadings", "--output", "RES", *files)
    return sum(map(int, out.split()))


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("1")


def sharing(bed):
    drop_caches()
    ids = [f"pod{i}" for i in range(PODS)]
    for i, name in enumerate(ids):
        bed.ctr("run", "-d", "--runtime", RUNTIMES["podvm"], "registry.local/debian:1", name,
                "sleep", "100000")
        bed.ctr("task", "exec", "--exec-id", "e", name, "sh", "-c", "cat /usr/lib/*/*.so* >/dev/null")
        if i in (0, PODS - 1):
            show(f"cached_{i + 1}", f"page cache of the image's files, {i + 1} pods that read them",
                 cached(bed) / 1e6, "MB")
    for name in ids:
        bed.ctr("task", "delete", "-f", name)
        bed.ctr("container", "rm", name)


def main():
    bed = Bed()
    try:
        conversion(bed)
        starts(bed)
        sharing(bed)
    finally:
        bed.close()
    with open(f"{BUILD}/bench-storage.json", "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)


main()
