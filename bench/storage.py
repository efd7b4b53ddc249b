# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of images: what converting them costs, how long a start takes with 1, 10 and 100 layers,
and how much memory pods of one image share.

Images of many layers are the test image `base` with small layers on top (tests/e2e/layered_image.py).
Starts are `ctr run --rm` of `true` with layers that have been converted before, in turns.
"""
import json
import os
import re
import time

import bed as b
from bed import E2E, SAMPLES

RUNTIMES = ("boot", "verity", "copy", "runc")
LAYERS = (1, 10, 100)
PODS = 10
READ = "/usr/lib/*/*.so*"
DEBIAN = "registry.local/debian:1"
report = b.Report("Images", RUNTIMES)


class Bed(b.Containerd):
    """Machines that boot, without and with hash trees, and copies of a template."""

    def __init__(self):
        common = {"vm": {"memory": "128M"}, "log": {"level": "info"}}
        boot = {**common, "template": {"enabled": "no"}}
        super().__init__({"boot": boot, "verity": {**boot, "image": {"verity": "yes"}}, "copy": common})
        self.images = b.test_images()

    def load_layered(self, n):
        name = f"registry.local/layers:{n}"
        if n == 1:
            return self.load(f"oci:{self.images}/oci:base", name)
        b.run("/usr/bin/python3", f"{E2E}/layered_image.py", f"{self.images}/oci", "base",
              f"{self.dir}/layers.tar", name, str(n))
        self.ctr("image", "import", f"{self.dir}/layers.tar")
        return name

    def conversions(self):
        """(layers, bytes, ms) of every one so far."""
        return [tuple(map(int, m)) for m in re.findall(
            r"a layer was converted.*?layers=(\d+) bytes=(\d+) ms=(\d+)", self.log())]


def timed(fn, *args):
    start = time.monotonic()
    fn(*args)
    return time.monotonic() - start


def pull(bed, config):
    """Seconds, and bytes of the file, of one conversion of the test image `debian`."""
    seconds = timed(bed.podvm, config, "image", "pull", f"oci:{bed.images}/oci:debian")
    size = json.loads(bed.podvm(config, "image", "ls", "--json"))[0]["size"]
    bed.podvm(config, "image", "prune", "--all")
    return seconds, size


def conversion(bed):
    runs = {config: [pull(bed, config) for _ in range(3)] for config in ("boot", "verity")}
    size = runs["boot"][0][1] / 1e6
    report.show("pull", f"podvm image pull: {size:.0f} MB in one layer",
                {c: [r[0] for r in rs] for c, rs in runs.items()}, "s")
    report.show("pull_rate", "...", {c: [r[1] / 1e6 / r[0] for r in rs] for c, rs in runs.items()}, "MB/s")
    bed.load(f"oci:{bed.images}/oci:debian", DEBIAN)
    bed.ctr_run("boot", DEBIAN, "true")
    _, size, ms = bed.conversions()[-1]
    report.show("layer_rate", f"a layer of containerd's, {size / 1e6:.0f} MB in {ms} ms",
                size / 1e3 / max(ms, 1), "MB/s")


def starts(bed):
    images = {n: bed.load_layered(n) for n in LAYERS}
    for n, image in images.items():
        before = len(bed.conversions())
        bed.ctr_run("boot", image, "true")
        made = bed.conversions()[before:]
        report.show(f"convert_{n}", f"{n} layers: conversion, {len(made)} files",
                    sum(m[2] for m in made), "ms")
        bed.ctr_run("verity", image, "true")
    samples = {n: {r: [] for r in RUNTIMES} for n in LAYERS}
    for _ in range(SAMPLES):
        for n, image in images.items():
            for runtime in RUNTIMES:
                samples[n][runtime].append(timed(bed.ctr_run, runtime, image, "true") * 1000)
    for n in LAYERS:
        report.show(f"start_{n}", f"{n} layers: ctr run --rm true", samples[n], "ms")


# ---- memory that pods share ----

def cached(bed, runtime):
    """MB of what pods read that the host's page cache has."""
    if runtime == "runc":
        where = (f"{bed.dir}/root/io.containerd.snapshotter.v1.overlayfs", "-path", f"*/fs{READ}")
    else:
        where = (f"{bed.dir}/cache/snapshots", "-name", "layer.erofs")
    files = b.run("find", *where, "-type", "f").split()
    out = b.run("fincore", "--bytes", "--noheadings", "--output", "RES", *files)
    return sum(map(int, out.split())) / 1e6


def guest_cached(bed, name):
    """MiB of the guest's own page cache."""
    text = bed.ctr_exec(name, "cat", "/proc/meminfo")
    return int(re.search(r"^Cached: +(\d+) kB", text, re.M).group(1)) / 1024


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("1")


def own(name):
    """MiB of guest memory that no other machine has."""
    return b.guest_ram(b.shim_of(name))["Private_Dirty"]


def share(bed, runtime):
    """Of pods that read the same one after the other: the figures."""
    drop_caches()
    machine = runtime != "runc"
    found = {"ram_before": [], "ram_after": [], "guest_before": [], "guest_after": []}
    names = []
    for i in range(PODS):
        name = bed.ctr_run(runtime, DEBIAN, "sleep", "100000", options=("-d",))
        names.append(name)
        if machine:
            found["ram_before"].append(own(name))
            found["guest_before"].append(guest_cached(bed, name))
        bed.ctr_exec(name, "sh", "-c", f"cat {READ} >/dev/null")
        if machine:
            found["guest_after"].append(guest_cached(bed, name))
        if i in (0, PODS - 1):
            found[f"cached_{i + 1}"] = cached(bed, runtime)
    # Those of a template are shared with the machines that came later.
    found["ram_after"] = [own(name) for name in names if machine]
    found["total"] = found[f"cached_{PODS}"] + sum(found["ram_after"]) * (1 << 20) / 1e6
    for name in names:
        bed.ctr_remove(name)
    return found


def sharing(bed):
    bed.ctr_run("copy", DEBIAN, "true")
    found = {r: share(bed, r) for r in ("boot", "copy", "runc")}
    for key, text, unit in (
            ("cached_1", "host's page cache of what a pod has read", "MB"),
            (f"cached_{PODS}", f"... of what {PODS} pods have read", "MB"),
            ("guest_before", "a guest's own page cache before reading", "MiB"),
            ("guest_after", "... and after", "MiB"),
            ("ram_before", "guest memory of a pod's own before reading", "MiB"),
            ("ram_after", "... and after", "MiB"),
            ("total", f"page cache and guests' own memory, {PODS} pods", "MB")):
        report.show(key, text, {r: f[key] for r, f in found.items() if f[key]}, unit)


def main():
    bed = Bed()
    try:
        bed.make_template("copy", lambda: bed.ctr_run("copy", bed.load_layered(1), "true"))
        conversion(bed)
        starts(bed)
        sharing(bed)
    finally:
        bed.close()
    report.save("bench-storage")


main()
