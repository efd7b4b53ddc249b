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
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
E2E = f"{HERE}/../tests/e2e"
BUILD = os.path.realpath(sys.argv[1])
SAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 3
PATHS = ("root", "emptydir", "device", "shared")
# How often: as often as makes a start's own part small.
OPERATIONS = {"read": 200, "write": 200, "fsync": 100, "create": 100, "stream-read": 16,
              "stream-write": 16}
IMAGE = "registry.local/base:1"
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


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs).stdout


class Bed:
    """A containerd with a configuration and a machine of our own."""

    def __init__(self, counting):
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        os.chmod(self.dir, 0o711)
        self.images = run(f"{E2E}/images.sh").strip().splitlines()[-1]
        self.write_config(counting)
        self.env = dict(os.environ, PODVM_CONFIG=f"{self.dir}/podvm.conf",
                        PATH=f"{BUILD}/src/shim:{os.environ['PATH']}")
        with open(f"{self.dir}/log", "w", encoding="utf-8") as log:
            self.containerd = subprocess.Popen(
                ["containerd", "-c", f"{self.dir}/config.toml"], env=self.env, stdout=log,
                stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        while not os.path.exists(f"{self.dir}/c.sock"):
            time.sleep(0.1)
        self.make_image()
        self.make_paths()

    def write_config(self, counting):
        vmm = ""
        if counting:
            with open(f"{self.dir}/qemu", "w", encoding="utf-8") as f:
                f.write(WRAPPER)
            os.chmod(f"{self.dir}/qemu", 0o755)
            run("gcc", "-O2", "-shared", "-fPIC", "-o", f"{self.dir}/count.so",
                f"{HERE}/guest_count.c")
            vmm = f"[vmm]\nbinary={self.dir}/qemu\nuid_base=0\n"
        with open(f"{self.dir}/podvm.conf", "w", encoding="utf-8") as f:
            f.write(f"[paths]\nimage={BUILD}/image\nstate={self.dir}/run\ncache={self.dir}/cache\n"
                    f"[vm]\nmemory=256M\n[start]\nboot_timeout=300s\nagent_timeout=300s\n"
                    f"[template]\nenabled=no\n[storage]\ndirect_volumes={self.dir}/direct\n{vmm}")
        os.chmod(f"{self.dir}/podvm.conf", 0o600)
        with open(f"{self.dir}/config.toml", "w", encoding="utf-8") as f:
            f.write(f'version = 2\nroot = "{self.dir}/root"\nstate = "{self.dir}/state"\n'
                    f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                    f'[grpc]\n  address = "{self.dir}/c.sock"\n')

    def make_image(self):
        os.makedirs(f"{self.dir}/layer/bin")
        os.makedirs(f"{self.dir}/layer/paths/root")
        run("gcc", "-O2", "-static", "-o", f"{self.dir}/layer/bin/file_ops", f"{HERE}/file_ops.c")
        run("tar", "-C", f"{self.dir}/layer", "-cf", f"{self.dir}/layer.tar", ".")
        run("skopeo", "copy", "-q", f"oci:{self.images}/oci:base", f"oci:{self.dir}/oci:base")
        run("umoci", "raw", "add-layer", "--image", f"{self.dir}/oci:base", f"{self.dir}/layer.tar")
        run("skopeo", "copy", "-q", f"oci:{self.dir}/oci:base", f"oci-archive:{self.dir}/i.tar:{IMAGE}")
        self.ctr("image", "import", f"{self.dir}/i.tar")

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
        run(f"{BUILD}/src/cli/podvm", "volume", "add", "--volume-path", self.sources["device"],
            "--mount-info", json.dumps(info), env=self.env)

    def ctr(self, *args):
        return run("ctr", "-a", f"{self.dir}/c.sock", *args)

    def start(self, runtime):
        mounts = []
        for name, source in self.sources.items():
            mounts += ["--mount", f"type=bind,src={source},dst=/paths/{name},options=rbind:rw"]
        self.ctr("run", "-d", "--runtime", f"io.containerd.{runtime}.v2", *mounts, IMAGE, runtime,
                 "sleep", "100000")

    def stop(self, runtime):
        self.ctr("task", "delete", "-f", runtime)
        self.ctr("container", "rm", runtime)

    def operate(self, path, what, count, runtime="podvm"):
        """Nanoseconds."""
        return int(self.ctr("task", "exec", "--exec-id", f"e{time.monotonic_ns()}", runtime,
                            "/bin/file_ops", f"/paths/{path}", what, str(count)))

    def processes(self):
        """Of the machine, by their names."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    ours = f"PODVM_CONFIG={self.dir}/".encode() in f.read()
                with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                    parent = f.read().rsplit(") ", 1)[1].split()[1]
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    found[pid] = f.read().strip(), ours, parent
            except OSError:
                pass
        shims = {p for p, (name, ours, _) in found.items() if ours and name.startswith("podvm-shim")}
        below = {p for p, (_, _, parent) in found.items() if parent in shims}
        below |= {p for p, (_, _, parent) in found.items() if parent in below}
        return sorted(shims | below)

    def close(self):
        self.containerd.terminate()
        self.containerd.wait()
        run(f"{BUILD}/src/cli/podvm", "volume", "remove", "--volume-path", self.sources["device"],
            env=self.env)
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)


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
        pids = [f"--attach={p}" for p in self.bed.processes()]
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
        """Of one operation: instructions, accesses, calls, bytes."""
        n = OPERATIONS[what]
        values = []
        for kind in (self.in_guest, self.on_host):
            none = [kind(path, what, 0) for _ in range(2)][1]  # the first reads the program
            some = kind(path, what, n)
            values += [(b - a) / n for a, b in zip(none, some)]
        return values


def counts():
    results = {}
    bed = Bed(counting=True)
    try:
        bed.start("podvm")
        counters = Counters(bed)
        print(f"  {'for one':<24}{'instructions':>14}{'accesses':>10}{'calls':>10}{'KiB copied':>12}")
        for what in OPERATIONS:
            for path in PATHS:
                bed.operate(path, "prepare", 0)
                values = counters.cost(path, what)
                results[f"{what}_{path}"] = values
                print(f"  {what + ' ' + path:<24}{values[0]:>14,.0f}{values[1]:>10.1f}"
                      f"{values[2]:>10.1f}{values[3] / 1024:>12.1f}", flush=True)
        bed.stop("podvm")
    finally:
        bed.close()
    return results


def rates():
    """Operations a second, beside runc's."""
    results = {}
    bed = Bed(counting=False)
    try:
        for runtime, paths in (("podvm", PATHS), ("runc", ("root", "shared"))):
            bed.start(runtime)
            for path in paths:
                bed.operate(path, "prepare", 0, runtime)
                for what, n in OPERATIONS.items():
                    ns = statistics.median(bed.operate(path, what, n, runtime) for _ in range(SAMPLES))
                    results[f"{what}_{path}_{runtime}"] = n * 1e9 / ns
                    print(f"  {runtime} {path:<10} {what:<14}{n * 1e9 / ns:>12,.0f} a second", flush=True)
            bed.stop(runtime)
    finally:
        bed.close()
    return results


def main():
    print(f"load average {os.getloadavg()[0]:.1f}")
    results = {"counts": counts(), "rates": rates(), "load_at_end": os.getloadavg()[0]}
    with open(f"{BUILD}/bench-paths.json", "w", encoding="utf-8") as f:
        json.dump(results, f, indent=1)


main()
