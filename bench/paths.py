# SPDX-License-Identifier: Apache-2.0
"""What an operation on a file costs on each path that a pod's files can be on: paths.py BUILD [SAMPLES]

One machine of `ctr run` has a directory on each path, and file_ops.c runs in it. What is counted is the
difference between some operations and none, for one operation:

  instructions   that the guest executes, its kernel included (guest_count.c)
  accesses       of the guest to devices (QEMU's memory_region_ops trace): on KVM each is an exit
  calls, bytes   system calls of monitor, shim and virtiofsd, and what these read and wrote (strace)

Rates are of a machine of its own, without any of that; runc's are beside them.
"""
import json
import mmap
import os
import re
import signal
import struct
import subprocess
import time

import bed as b
from bed import HERE, SAMPLES, run

PATHS = ("root", "emptydir", "device", "shared")
# Of a container of runc: those that it has, and which of ours they are like.
RUNC = {"overlayfs": "root", "bind": "shared"}
# How often: as often as makes a start's own part small.
OPERATIONS = {"read": 200, "write": 200, "fsync": 100, "create": 100, "stream-read": 16,
              "stream-write": 16}
COUNTED = {"instructions": "", "accesses": "", "calls": "", "copied": "KiB"}
IMAGE = "registry.local/paths:1"
report = b.Report("Operations on files", (*PATHS, *RUNC))
CLOCKS = re.compile(r"name '(pit|apic-msi|io|hpet)'")
COPIES = re.compile(r"\b(?:p?read(?:v2?|64)?|p?write(?:v2?|64)?|preadv|pwritev|recv(?:from|msg)|"
                    r"send(?:to|msg)|splice)\(.*= (\d+)$|\b(?:p?read|p?write|p?readv|p?writev|"
                    r"p?read64|p?write64|preadv|pwritev|recvfrom|recvmsg|sendto|sendmsg|splice) "
                    r"resumed>.*= (\d+)$")

WRAPPER = r"""#!/bin/bash
[[ "$*" == *id=agent* ]] || exec qemu-system-x86_64 "$@"
here=$(dirname "$0")
args=()
for a in "$@"; do
	a=${a//accel=kvm/accel=tcg}
	args+=("$(sed -E 's/tsc_early_khz=[0-9]+/tsc_early_khz=1000000/' <<<"$a")")
done
head -c 8 /dev/zero >"$here/count"
exec qemu-system-x86_64 "${args[@]}" -icount shift=0 -plugin "$here/count.so,out=$here/count" \
	-trace 'memory_region_ops_*' -D "$here/trace"
"""


class Bed(b.Containerd):
    """A containerd for one machine that has a directory on each path."""

    def __init__(self, counting):
        vmm = {"binary": "{dir}/qemu", "uid_base": 0} if counting else {}
        super().__init__({"podvm": {"vm": {"memory": "256M"}, "template": {"enabled": "no"},
                                    "storage": {"direct_volumes": "{dir}/direct"}, "vmm": vmm}})
        if counting:
            with open(f"{self.dir}/qemu", "w", encoding="ascii") as f:
                f.write(WRAPPER)
            os.chmod(f"{self.dir}/qemu", 0o755)
            run("gcc", "-O2", "-shared", "-fPIC", "-o", f"{self.dir}/count.so", f"{HERE}/guest_count.c")
        self.make_image()
        self.make_paths()

    def make_image(self):
        os.makedirs(f"{self.dir}/layer/bin")
        os.makedirs(f"{self.dir}/layer/paths/root")
        run("gcc", "-O2", "-static", "-o", f"{self.dir}/layer/bin/file_ops", f"{HERE}/file_ops.c")
        run("tar", "-C", f"{self.dir}/layer", "-cf", f"{self.dir}/layer.tar", ".")
        run("skopeo", "copy", "-q", f"oci:{b.test_images()}/oci:base", f"oci:{self.dir}/oci:base")
        run("umoci", "raw", "add-layer", "--image", f"{self.dir}/oci:base", f"{self.dir}/layer.tar")
        self.load(f"oci:{self.dir}/oci:base", IMAGE)

    def make_paths(self):
        volumes = f"{self.dir}/pods/1d2c3b4a-uid/volumes"
        self.sources = {"emptydir": f"{volumes}/kubernetes.io~empty-dir/emptydir",
                        "device": f"{volumes}/kubernetes.io~csi/device/mount",
                        "shared": f"{self.dir}/shared"}
        for path in self.sources.values():
            os.makedirs(path)
        run("truncate", "-s", "256M", f"{self.dir}/device")
        run("mkfs.ext4", "-q", "-b", "4096", f"{self.dir}/device")
        info = {"volume-type": "block", "device": f"{self.dir}/device", "fstype": "ext4"}
        self.podvm("podvm", "volume", "add", "--volume-path", self.sources["device"],
                   "--mount-info", json.dumps(info))

    def start(self, runtime):
        options = ["-d"]
        for name, source in self.sources.items():
            options += ["--mount", f"type=bind,src={source},dst=/paths/{name},options=rbind:rw"]
        self.container = self.ctr_run(runtime, IMAGE, "sleep", "100000", options=options)

    def operate(self, path, what, count):
        """Nanoseconds."""
        return int(self.ctr_exec(self.container, "/bin/file_ops", f"/paths/{path}", what, str(count)))

    def close(self):
        self.podvm("podvm", "volume", "remove", "--volume-path", self.sources["device"])
        super().close()


class Counters:
    def __init__(self, bed):
        self.bed = bed
        with open(f"{bed.dir}/count", "rb") as f:
            self.count = mmap.mmap(f.fileno(), 8, prot=mmap.PROT_READ)

    def instructions(self):
        return struct.unpack("<Q", self.count[:8])[0]

    def accesses(self):
        with open(f"{self.bed.dir}/trace", encoding="utf-8", errors="replace") as f:
            return sum("memory_region_ops" in line and not CLOCKS.search(line) for line in f)

    def in_guest(self, path, what, count):
        instructions, accesses = self.instructions(), self.accesses()
        self.bed.operate(path, what, count)
        return self.instructions() - instructions, self.accesses() - accesses

    def on_host(self, path, what, count):
        out = f"{self.bed.dir}/strace"
        shim = b.shim_of(self.bed.container)
        pids = [f"--attach={p}" for p in [shim] + b.children(shim)]
        with subprocess.Popen(["strace", "-f", "-q", "-s", "0", "-o", out, *pids],
                              stderr=subprocess.DEVNULL) as strace:
            time.sleep(1)  # it attaches
            self.bed.operate(path, what, count)
            strace.send_signal(signal.SIGINT)
        calls = copied = 0
        with open(out, encoding="utf-8", errors="replace") as f:
            for line in f:
                if "<unfinished" in line or " = " not in line:
                    continue
                calls += 1
                match = COPIES.search(line)
                copied += int(match.group(1) or match.group(2)) if match else 0
        return calls, copied

    def cost(self, path, what):
        """Of one operation: instructions, accesses, calls, KiB."""
        n = OPERATIONS[what]
        values = []
        self.bed.operate(path, "prepare", 0)
        for kind in (self.in_guest, self.on_host):
            none = [kind(path, what, 0) for _ in range(2)][1]  # the first reads the program
            values += [(after - before) / n for before, after in zip(none, kind(path, what, n))]
        return *values[:3], values[3] / 1024


def counts():
    bed = Bed(counting=True)
    try:
        bed.start("podvm")
        counters = Counters(bed)
        for what in OPERATIONS:
            costs = {path: counters.cost(path, what) for path in PATHS}
            for i, (name, unit) in enumerate(COUNTED.items()):
                report.show(f"{what}_{name}", f"{what}: {name}", {p: c[i] for p, c in costs.items()}, unit)
    finally:
        bed.close()


def rates(bed, runtime, paths):
    """Operations a second: for each of them samples for each of the paths."""
    found = {what: {} for what in OPERATIONS}
    bed.start(runtime)
    for name, path in paths.items():
        bed.operate(path, "prepare", 0)
        for what, n in OPERATIONS.items():
            found[what][name] = [n * 1e9 / bed.operate(path, what, n) for _ in range(SAMPLES)]
    bed.ctr_remove(bed.container)
    return found


def main():
    counts()
    bed = Bed(counting=False)
    try:
        machine = rates(bed, "podvm", {p: p for p in PATHS})
        container = rates(bed, "runc", RUNC)
    finally:
        bed.close()
    for what in OPERATIONS:
        report.show(f"{what}_rate", f"{what}: how many", {**machine[what], **container[what]}, "1/s")
    report.save("bench-paths")


main()
