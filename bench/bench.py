# SPDX-License-Identifier: Apache-2.0
"""PodVM's benchmarks: what a container in a microVM costs, in numbers that can be repeated.

Counts (instructions, exits, bytes, pages) don't depend on what else the machine does. Wall times do:
they are taken in turns, as medians, and mean something only beside each other.
"""
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import stock

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD, SAMPLES = sys.argv[1], int(sys.argv[2])
PODVM = f"{BUILD}/src/cli/podvm"
IMAGE = f"{BUILD}/image"
CACHE = os.environ.get("PODVM_CACHE") or os.path.expanduser("~/.cache/podvm")
results = {}
rows = []


def show(key, text, value, unit, note=""):
    results[key] = {"value": value, "unit": unit, "note": note}
    rows.append((text, value, unit, note))
    print(f"  {text:<52} {value:>14,.1f} {unit:<6} {note}", flush=True)


class Bed:
    """A configuration of our own: state and caches in a temporary directory."""

    def __init__(self, templates=False, **vmm):
        self.dir = tempfile.mkdtemp(prefix="podvm-bench-")
        os.chmod(self.dir, 0o711)
        self.config = f"{self.dir}/podvm.conf"
        # A template of QEMU's stand-in here is of no use to anybody later.
        cache = f"{self.dir}/cache" if templates else f"{CACHE}/bench"
        with open(self.config, "w") as f:
            f.write(f"[paths]\nimage={IMAGE}\nstate={self.dir}/run\ncache={cache}\n"
                    "[start]\nboot_timeout=10min\nagent_timeout=10min\n"
                    f"[template]\nenabled={'yes' if templates else 'no'}\n[vmm]\n")
            f.write("".join(f"{k}={v}\n" for k, v in vmm.items()))
        os.chmod(self.config, 0o600)

    def podvm(self, *args, log=None, **kwargs):
        command = [PODVM] + (["--log-level", log] if log else []) + list(args)
        kwargs.setdefault("timeout", 600)
        return subprocess.run(command, env=dict(os.environ, PODVM_CONFIG=self.config),
                              capture_output=True, **kwargs)

    def wrapper(self, lines):
        """A program that starts QEMU with other arguments; for the binary= key."""
        path = f"{self.dir}/qemu"
        with open(path, "w") as f:
            f.write("#!/bin/bash\n" + lines)
        os.chmod(path, 0o755)
        with open(self.config, "a") as f:
            f.write(f"[vmm]\nbinary={path}\nuid_base=0\n")

    def close(self):
        subprocess.run(["rm", "-rf", self.dir], check=True)


def test_image(name):
    """Reference of one of the images that the end-to-end tests use."""
    out = subprocess.run([f"{HERE}/../tests/e2e/images.sh"],
                         capture_output=True, text=True, check=True).stdout
    return f"oci:{out.strip().splitlines()[-1]}/oci:{name}"


def check(run):
    if run.returncode != 0:
        raise RuntimeError(f"{run.args}: {run.stderr.decode()}")
    return run


ICOUNT = r"""
args=()
for a in "$@"; do
	a=${a//accel=kvm/accel=tcg}
	args+=("$(sed -E 's/tsc_early_khz=[0-9]+/tsc_early_khz=1000000/' <<<"$a")")
done
exec qemu-system-x86_64 "${args[@]}" -icount shift=0,sleep=off
"""

TRACE = r"""
exec qemu-system-x86_64 "$@" -trace 'memory_region_ops_*' -trace virtio_serial_handle_control_message \
	-D "$(dirname "$0")/trace"
"""

# What is accessed more often the longer something takes; "io" are the delays between.
CLOCKS = r"name '(pit|apic-msi|io)'"


def boot_instructions(base):
    bed = Bed(accel="tcg")
    bed.wrapper(ICOUNT)
    values = []
    # The clock jumps to the next timer while the guest waits for its disk: the least is the count.
    # Later it may even jump to a deadline of the agent's, so how the container ends doesn't matter.
    for _ in range(5):
        run = bed.podvm("run", "--rm", "--net", "none", base, "true", log="info")
        values.append(int(re.search(rb"boot_tsc=(\d+)", run.stderr).group(1)))
    bed.close()
    show("boot_instructions", "instructions to agent-ready", min(values) / 1e6, "e6",
         f"least of 5, most {max(values) / 1e6:.1f}e6")


def counting_bed(templates):
    """One where calls.py stands for QEMU."""
    bed = Bed(templates, accel="tcg")
    bed.wrapper("")
    shutil.copy(f"{HERE}/calls.py", f"{bed.dir}/qemu")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", f"{bed.dir}/count.so",
                    f"{HERE}/guest_count.c"], check=True)
    return bed


def read_calls(bed):
    """For each method the calls: instructions, those since the start, and blocks since the start."""
    calls = {}
    with open(f"{bed.dir}/calls") as f:
        for line in f:
            method, *counts = line.split()
            calls.setdefault(method, []).append([int(c) for c in counts])
    return calls


def guest_calls(base):
    """What a container's start and an exec cost the guest, in instructions of the agent's calls."""
    bed = counting_bed(templates=False)
    name = check(bed.podvm("run", "-d", "--net", "none", base, "sleep", "100000")).stdout.decode().strip()
    for _ in range(5):
        check(bed.podvm("exec", name, "true"))
    bed.podvm("rm", "-f", name)
    calls = {m: [c[0] / 1e6 for c in counts] for m, counts in read_calls(bed).items()}
    bed.close()
    show("guest_create", "instructions of CreateContainer, nothing cached", calls["CreateContainer"][0], "e6")
    show("guest_start", "instructions of StartContainer", calls["StartContainer"][0], "e6")
    show("guest_exec_first", "instructions of the first Exec of true", calls["Exec"][0], "e6")
    show("guest_exec", "instructions of a later Exec of true", min(calls["Exec"][1:]), "e6",
         f"least of 4, most {max(calls['Exec'][1:]):.2f}e6")


def copy_calls(base):
    """The same of a copy of a template, from the moment at which it goes on."""
    bed = counting_bed(templates=True)
    check(bed.podvm("template", "create", "--net", "none"))
    os.remove(f"{bed.dir}/calls")
    run = check(bed.podvm("run", "--rm", "--timings", "--net", "none", base, "true"))
    if b"copy of a template" not in run.stderr:
        raise RuntimeError("it isn't a copy: " + run.stderr.decode())
    calls = read_calls(bed)
    bed.close()
    _, total, blocks = calls["StartContainer"][0]
    show("copy_create", "copy: instructions of CreateContainer", calls["CreateContainer"][0][0] / 1e6, "e6")
    show("copy_start", "copy: instructions from its start to the container's", total / 1e6, "e6")
    show("copy_blocks", "... different blocks of code, all to be translated", blocks, "")


def stock_instructions():
    with tempfile.TemporaryDirectory(prefix="podvm-stock-") as work:
        package, count = stock.instructions(work)
    show("stock_instructions", "Debian's cloud kernel, static init, same flags", count / 1e6, "e6",
         package)


def boot_accesses(base):
    bed = Bed(accel="tcg")
    bed.wrapper(TRACE)
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))
    accesses = clocks = 0
    with open(f"{bed.dir}/trace", errors="replace") as f:
        for line in f:
            # The guest opens the agent's port: PORT_OPEN is event 6.
            if "virtio_serial_handle_control_message" in line and re.search(r"event 6|, 6", line):
                break
            if "memory_region_ops" in line:
                accesses += 1
                clocks += re.search(CLOCKS, line) is not None
    bed.close()
    show("boot_accesses", "device accesses (MMIO and PIO) to agent-ready", accesses - clocks, "",
         f"and {clocks} of clocks, which depend on time and on KVM are in the kernel")


def copy_accesses(base):
    """The same of a copy, from its start to its end, with a container in between."""
    bed = Bed(templates=True, accel="tcg")
    bed.wrapper(TRACE)
    check(bed.podvm("template", "create", "--net", "none"))
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))
    with open(f"{bed.dir}/trace", errors="replace") as f:
        kinds = [re.search(CLOCKS, line) is None for line in f if "memory_region_ops" in line]
    bed.close()
    show("copy_accesses", "copy: device accesses for one container", sum(kinds), "",
         f"and {len(kinds) - sum(kinds)} of clocks")


def traced(bed, tool, *args):
    """`podvm run` of a trivial container below a tool that counts; what the tool has to say."""
    out = f"{bed.dir}/counts"
    subprocess.run(tool(out) + [PODVM, "run", "--rm", "--net", "none", *args], check=True,
                   env=dict(os.environ, PODVM_CONFIG=bed.config), capture_output=True, timeout=600)
    with open(out) as f:
        return f.read()


def host_syscalls(base):
    """Of the owner of a machine for one container, without QEMU and other children."""
    bed = Bed()
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))  # the caches are filled
    text = traced(bed, lambda out: ["strace", "-f", "-o", out], base, "true")
    owner = text.split()[0]
    calls = [line for line in text.splitlines()
             if line.split()[0] == owner and "<..." not in line and "---" not in line]
    bed.close()
    show("host_syscalls", "system calls of podvm for one container", len(calls), "")


def host_instructions(base):
    """Of the same."""
    tools = subprocess.run([f"{HERE}/../tests/tools.sh", "valgrind"], capture_output=True, text=True,
                           check=True).stdout.strip()
    os.environ["VALGRIND_LIB"] = f"{tools}/usr/libexec/valgrind"
    bed = Bed()
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))
    text = traced(bed, lambda out: [f"{tools}/usr/bin/valgrind.bin", "--tool=callgrind",
                                    "--callgrind-out-file=/dev/null", f"--log-file={out}"],
                  base, "true")
    bed.close()
    show("host_instructions", "instructions of podvm for one container",
         int(re.search(r"Collected : (\d+)", text).group(1)) / 1e6, "e6", "user mode, loading included")


def run_times(base):
    bed = Bed()
    stages = {}
    totals = []
    for _ in range(SAMPLES):
        began = time.monotonic()
        run = check(bed.podvm("run", "--rm", "--timings", base, "echo", "hello"))
        totals.append((time.monotonic() - began) * 1e3)
        for name, ms in re.findall(rb"^  (\S.*?) +([0-9.]+) ms$", run.stderr, re.M):
            stages.setdefault(name.decode(), []).append(float(ms))
    for name, values in stages.items():
        show(f"run_{name.replace(' ', '_')}", f"podvm run: {name}", statistics.median(values), "ms",
             f"min {min(values):.1f} max {max(values):.1f}")
    show("run_process", "podvm run: the whole command", statistics.median(totals), "ms",
         f"min {min(totals):.1f} max {max(totals):.1f}")
    bed.close()


def smaps(pid):
    text = open(f"/proc/{pid}/smaps_rollup").read()
    get = lambda k: sum(int(v) for v in re.findall(rf"^{k}: +(\d+) kB", text, re.M)) / 1024
    return get("Pss"), get("Private_Clean") + get("Private_Dirty")


def children(pid):
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in open(f"/proc/{pid}/task/{task}/children").read().split():
            found += children(int(child))
    return found


def guest_memory(bed, base):
    """Memory of a machine of 128 MiB that no container can have."""
    for net in ("none", "user"):
        # What the container has already is available to it as well.
        text = check(bed.podvm("run", "--rm", "--net", net, base, "cat",
                               "/sys/fs/cgroup/memory.current", "/proc/meminfo")).stdout.decode()
        available = int(re.search(r"MemAvailable: +(\d+)", text).group(1)) / 1024
        available += int(text.split()[0]) / (1 << 20)
        show(f"guest_memory_net_{net}", f"guest memory not for containers, of 128 MiB, --net {net}",
             128 - available, "MiB")


def guest_pages(base):
    """Memory of the guest that the host has had to find for a container that does nothing."""
    bed = Bed()
    with open(bed.config, "a") as f:
        f.write("[vm]\nmemory=128M\n")
    name = check(bed.podvm("run", "-d", "--net", "none", base, "sleep", "100000")).stdout.decode().strip()
    owner = json.loads(check(bed.podvm("inspect", name)).stdout)[0]["pid"]
    rss = []
    for pid in children(owner):
        with open(f"/proc/{pid}/smaps") as f:
            rss += [int(r) for size, r in re.findall(
                r"^Size: +(\d+) kB\n(?:.*\n){2}Rss: +(\d+) kB", f.read(), re.M)
                    if int(size) == 128 << 10]
    bed.podvm("rm", "-f", name)
    bed.close()
    show("guest_pages", "guest memory touched with a container, of 128 MiB", max(rss) / 1024, "MiB")


def running(base):
    """What a container costs while it runs, and what can be done with it."""
    bed = Bed()
    with open(bed.config, "a") as f:
        f.write("[vm]\nmemory=128M\n")
    guest_memory(bed, base)
    name = check(bed.podvm("run", "-d", base, "sleep", "100000")).stdout.decode().strip()
    owner = json.loads(check(bed.podvm("inspect", name)).stdout)[0]["pid"]
    for pid in children(owner):
        comm = open(f"/proc/{pid}/comm").read().strip()
        pss, private = smaps(pid)
        show(f"pss_{comm}", f"host process {comm}: PSS", pss, "MiB", f"private {private:.1f} MiB")
    times = []
    for _ in range(max(SAMPLES, 20)):
        began = time.monotonic()
        check(bed.podvm("exec", name, "true"))
        times.append((time.monotonic() - began) * 1e3)
    show("exec", "podvm exec true", statistics.median(times), "ms", f"min {min(times):.1f}")
    size = 64
    began = time.monotonic()
    out = check(bed.podvm("exec", name, "dd", "if=/dev/zero", "bs=1M", f"count={size}"))
    assert len(out.stdout) == size << 20
    show("stdout", "stdout of an exec", size / (time.monotonic() - began), "MiB/s")
    began = time.monotonic()
    check(bed.podvm("exec", "-i", name, "sh", "-c", "cat >/dev/null", input=bytes(size << 20)))
    show("stdin", "stdin of an exec", size / (time.monotonic() - began), "MiB/s")
    bed.podvm("rm", "-f", name)
    bed.close()


def sizes():
    manifest = json.load(open(f"{IMAGE}/manifest.json"))
    total = 0
    for part in ("kernel", "rootfs"):
        total += manifest[part]["size"]
        show(f"size_{part}", f"guest image: {manifest[part]['file']}", manifest[part]["size"] / 1e6,
             "MB")
    show("size_image", "guest image: both", total / 1e6, "MB")


# What the model of docs/benchmarks.md knows about a start: instructions, exits, pages that are made.
MODEL = {"boot": ("boot_instructions", "boot_accesses", "guest_pages"),
         "copy": ("copy_start", "copy_accesses", "copy_dirty")}


def copy_dirty(base):
    """Memory of its own that a copy with a container has."""
    bed = Bed(templates=True)
    with open(bed.config, "a") as f:
        f.write("[vm]\nmemory=128M\n")
    check(bed.podvm("template", "create", "--net", "none"))
    name = check(bed.podvm("run", "-d", "--net", "none", base, "sleep", "100000")).stdout.decode().strip()
    owner = json.loads(check(bed.podvm("inspect", name)).stdout)[0]["pid"]
    time.sleep(3)
    dirty = [0]
    for pid in children(owner):
        with open(f"/proc/{pid}/smaps") as f:
            dirty += [int(d) for d in re.findall(
                r"^Size: +131072 kB\n(?:\w+: .*\n)*?Private_Dirty: +(\d+) kB", f.read(), re.M)]
    bed.podvm("rm", "-f", name)
    bed.close()
    show("copy_dirty", "copy: memory of its own, with a container", max(dirty) / 1024, "MiB")


def model():
    """Its inputs; on a machine with KVM the time beside them is what its coefficients come from."""
    print("  inputs of the model: 10^6 instructions, exits, pages; and the stages that were measured")
    for name, keys in MODEL.items():
        instructions, exits, memory = (results[k]["value"] for k in keys)
        print(f"  {name:<6} {instructions:10.1f} {exits:10.0f} {memory * 256:10.0f}", flush=True)
    print("  measured: boot {:.0f} ms, create {:.0f} ms".format(
        *(results[f"run_{s}"]["value"] for s in ("boot", "create"))), flush=True)


def machine():
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read()).group(1)
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True)
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "qemu": qemu.stdout.splitlines()[0], "load": os.getloadavg()[0],
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def main():
    info = machine()
    print("PodVM benchmarks:", ", ".join(f"{k} {v}" for k, v in info.items()))
    base = test_image("base")
    sizes()
    boot_instructions(base)
    guest_calls(base)
    copy_calls(base)
    stock_instructions()
    boot_accesses(base)
    host_syscalls(base)
    host_instructions(base)
    run_times(base)
    guest_pages(base)
    copy_accesses(base)
    copy_dirty(base)
    running(base)
    model()
    info["load_at_end"] = os.getloadavg()[0]
    with open(f"{BUILD}/bench.json", "w") as f:
        json.dump({"machine": info, "samples": SAMPLES, "results": results}, f, indent=2)
    print(f"written to {BUILD}/bench.json")


if __name__ == "__main__":
    main()
