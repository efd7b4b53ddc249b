# SPDX-License-Identifier: Apache-2.0
"""PodVM's benchmarks: what a container in a microVM costs, in numbers that can be repeated.

Counts (instructions, exits, bytes, pages) don't depend on what else the machine does. Wall times do:
they are taken in turns, of machines that boot and of copies of a template, and mean something only
beside each other.
"""
import json
import os
import re
import struct
import subprocess
import tempfile
import time

import bed as b
import stock
from bed import HERE, PODVM, SAMPLES

report = None


class Bed:
    """A configuration of our own: state and caches in a temporary directory."""

    def __init__(self, templates=False, vmm=None, memory="256M", pool=0):
        """@vmm: A program that starts QEMU with other arguments. @pool: How many machines may wait."""
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        os.chmod(self.dir, 0o711)
        keys = {}
        if vmm:
            with open(f"{self.dir}/qemu", "w") as f:
                f.write(vmm)
            os.chmod(f"{self.dir}/qemu", 0o755)
            keys = {"accel": "tcg", "binary": f"{self.dir}/qemu", "uid_base": 0}
        self.config = f"{self.dir}/podvm.conf"
        b.write_config(self.config, self.dir, vm={"memory": memory}, vmm=keys,
                       template={"enabled": "yes" if templates else "no"}, pool={"size_user": pool})

    def podvm(self, *args, log=None, **kwargs):
        command = [PODVM] + (["--log-level", log] if log else []) + list(args)
        kwargs.setdefault("timeout", 600)
        return subprocess.run(command, env=dict(os.environ, PODVM_CONFIG=self.config),
                              capture_output=True, **kwargs)

    def start_pool(self):
        """Until a machine waits; the process that has to be ended."""
        pool = subprocess.Popen([PODVM, "pool", "run"], env=dict(os.environ, PODVM_CONFIG=self.config),
                                stdin=subprocess.DEVNULL)
        b.wait_until(lambda: json.loads(check(self.podvm("pool", "status", "--json")).stdout), "the pool")
        return pool

    def sleep(self, base, *args):
        """A container that does nothing: its name, and the process that has its machine."""
        name = check(self.podvm("run", "-d", *args, base, "sleep", "100000")).stdout.decode().strip()
        return name, json.loads(check(self.podvm("inspect", name)).stdout)[0]["pid"]

    def close(self):
        subprocess.run(["rm", "-rf", self.dir], check=True)


def test_image(name):
    return f"oci:{b.test_images()}/oci:{name}"


def check(run):
    if run.returncode != 0:
        raise RuntimeError(f"{run.args}: {run.stderr.decode()}")
    return run


ICOUNT = r"""#!/bin/bash
args=()
for a in "$@"; do
	a=${a//accel=kvm/accel=tcg}
	args+=("$(sed -E 's/tsc_early_khz=[0-9]+/tsc_early_khz=1000000/' <<<"$a")")
done
exec qemu-system-x86_64 "${args[@]}" -icount shift=0,sleep=off
"""

TRACE = r"""#!/bin/bash
exec qemu-system-x86_64 "$@" -trace 'memory_region_ops_*' -trace virtio_serial_handle_control_message \
	-D "$(dirname "$0")/trace"
"""

# What is accessed more often the longer something takes; "io" are the delays between.
CLOCKS = r"name '(pit|apic-msi|io)'"


def boot_instructions(base):
    bed = Bed(vmm=ICOUNT)
    values = []
    # The clock jumps to the next timer while the guest waits for its disk: the least is the count.
    # Later it may even jump to a deadline of the agent's, so how the container ends doesn't matter.
    for _ in range(5):
        run = bed.podvm("run", "--rm", "--net", "none", base, "true", log="info")
        values.append(int(re.search(rb"boot_tsc=(\d+)", run.stderr).group(1)))
    bed.close()
    report.show("boot_instructions", "instructions to agent-ready", min(values) / 1e6, "e6",
                f"least of 5, most {max(values) / 1e6:.1f}e6")


def counting_bed(templates, pool=0):
    """One where calls.py stands for QEMU."""
    with open(f"{HERE}/calls.py") as f:
        bed = Bed(templates, vmm=f.read(), pool=pool)
    b.run("gcc", "-O2", "-shared", "-fPIC", "-o", f"{bed.dir}/count.so", f"{HERE}/guest_count.c")
    crun = b.run(f"{HERE}/../guest/crun/build.sh").strip()
    with open(f"{crun}/crun", "rb") as f, open(f"{bed.dir}/entry", "w", encoding="ascii") as entry:
        entry.write(str(struct.unpack_from("<Q", f.read(64), 24)[0]))  # e_entry
    return bed


def read_calls(bed):
    """For each method the calls: instructions, those since the start, blocks since the start, crun's."""
    calls = {}
    with open(f"{bed.dir}/calls") as f:
        for line in f:
            method, *counts = line.split()
            calls.setdefault(method, []).append([int(c) for c in counts])
    return calls


def guest_calls(base):
    """What a container's start and an exec cost the guest, in instructions of the agent's calls."""
    bed = counting_bed(templates=False)
    name, _ = bed.sleep(base, "--net", "none")
    for _ in range(5):
        check(bed.podvm("exec", name, "true"))
    bed.podvm("rm", "-f", name)
    all_calls = read_calls(bed)
    calls = {m: [c[0] / 1e6 for c in counts] for m, counts in all_calls.items()}
    bed.close()
    show = report.show
    show("guest_create", "instructions of CreateContainer, nothing cached", calls["CreateContainer"][0], "e6")
    show("guest_crun", "... of these crun's, from its first one on", all_calls["CreateContainer"][0][3] / 1e6, "e6")
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
    _, total, blocks, _ = calls["StartContainer"][0]
    create, _, _, crun = calls["CreateContainer"][0]
    report.show("copy_create", "instructions of CreateContainer", {"copy": create / 1e6}, "e6")
    report.show("copy_crun", "... of these crun's, from its first one on", {"copy": crun / 1e6}, "e6")
    report.show("copy_start", "instructions from its start to the container's", {"copy": total / 1e6}, "e6")
    report.show("copy_blocks", "... different blocks of code, all to be translated", {"copy": blocks})


def pool_calls(base):
    """What a machine of the pool has left to do for the first time, its network included."""
    bed = counting_bed(templates=True, pool=1)
    check(bed.podvm("template", "create"))
    os.remove(f"{bed.dir}/calls")
    pool = bed.start_pool()
    practised = read_calls(bed)["PrepareTemplate"][0]
    run = check(bed.podvm("run", "--rm", "--timings", base, "true"))
    calls = read_calls(bed)
    pool.terminate()
    pool.wait()
    bed.close()
    if b"machine of the pool" not in run.stderr:
        raise RuntimeError("it isn't of the pool: " + run.stderr.decode())
    report.show("pool_practice", "instructions of practice", {"pool": practised[0] / 1e6}, "e6")
    report.show("pool_create", "instructions of CreateContainer", {"pool": calls["CreateContainer"][0][0] / 1e6}, "e6")
    report.show("pool_blocks", "blocks of code that practice hasn't had translated, until it's started",
                {"pool": calls["StartContainer"][0][2] - practised[2]})


def stock_instructions():
    with tempfile.TemporaryDirectory(prefix="podvm-stock-") as work:
        package, count = stock.instructions(work)
    report.show("stock_instructions", "Debian's cloud kernel, static init, same flags", count / 1e6,
                "e6", package)


def boot_accesses(base):
    bed = Bed(vmm=TRACE)
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
    report.show("boot_accesses", "device accesses (MMIO and PIO) to agent-ready", accesses - clocks, "",
                f"and {clocks} of clocks, which depend on time and on KVM are in the kernel")


def copy_accesses(base):
    """The same of a copy, from its start to its end, with a container in between."""
    bed = Bed(templates=True, vmm=TRACE)
    check(bed.podvm("template", "create", "--net", "none"))
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))
    with open(f"{bed.dir}/trace", errors="replace") as f:
        kinds = [re.search(CLOCKS, line) is None for line in f if "memory_region_ops" in line]
    bed.close()
    report.show("copy_accesses", "device accesses for one container", {"copy": sum(kinds)}, "",
                f"and {len(kinds) - sum(kinds)} of clocks")


def traced(bed, tool, *args):
    """`podvm run` of a trivial container below a tool that counts; what the tool has to say."""
    out = f"{bed.dir}/counts"
    b.run(*tool(out), PODVM, "run", "--rm", "--net", "none", *args,
          env=dict(os.environ, PODVM_CONFIG=bed.config), timeout=600)
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
    report.show("host_syscalls", "system calls of podvm for one container", len(calls))


def host_instructions(base):
    """Of the same."""
    tools = b.run(f"{HERE}/../tests/tools.sh", "valgrind").strip()
    os.environ["VALGRIND_LIB"] = f"{tools}/usr/libexec/valgrind"
    bed = Bed()
    check(bed.podvm("run", "--rm", "--net", "none", base, "true"))
    text = traced(bed, lambda out: [f"{tools}/usr/bin/valgrind.bin", "--tool=callgrind",
                                    "--callgrind-out-file=/dev/null", f"--log-file={out}"],
                  base, "true")
    bed.close()
    report.show("host_instructions", "instructions of podvm for one container",
                int(re.search(r"Collected : (\d+)", text).group(1)) / 1e6, "e6",
                "user mode, loading included")


def run_times(base):
    """Machines that boot and copies of a template, in turns."""
    bed = Bed(templates=True)
    check(bed.podvm("template", "create", "--net", "user"))
    check(bed.podvm("run", "--rm", base, "true"))
    stages = {}
    for _ in range(SAMPLES):
        for kind, options in ("boot", ["--no-template"]), ("copy", []):
            began = time.monotonic()
            run = check(bed.podvm("run", "--rm", "--timings", *options, base, "echo", "hello"))
            took = (time.monotonic() - began) * 1e3
            if (b"copy of a template" in run.stderr) != (kind == "copy"):
                raise RuntimeError(f"not a {kind}: {run.stderr.decode()}")
            found = re.findall(rb"^  (\S.*?) +([0-9.]+) ms", run.stderr, re.M)
            for stage, ms in found + [(b"process", took)]:
                stages.setdefault(stage.decode(), {}).setdefault(kind, []).append(float(ms))
    bed.close()
    for stage, values in stages.items():
        text = "the whole command" if stage == "process" else stage
        report.show(f"run_{stage.replace(' ', '_')}", f"podvm run: {text}", values, "ms")


def guest_memory(bed, base):
    """Memory of a machine of 128 MiB that no container can have."""
    for net in ("none", "user"):
        # What the container has already is available to it as well.
        text = check(bed.podvm("run", "--rm", "--net", net, base, "cat",
                               "/sys/fs/cgroup/memory.current", "/proc/meminfo")).stdout.decode()
        available = int(re.search(r"MemAvailable: +(\d+)", text).group(1)) / 1024
        available += int(text.split()[0]) / (1 << 20)
        report.show(f"guest_memory_net_{net}",
                    f"guest memory not for containers, of 128 MiB, --net {net}", 128 - available, "MiB")


def guest_pages(base):
    """Memory of the guest that the host has had to find for a container that does nothing."""
    bed = Bed(memory="128M")
    name, owner = bed.sleep(base, "--net", "none")
    report.show("guest_pages", "guest memory touched with a container, of 128 MiB",
                b.guest_ram(owner)["Rss"], "MiB")
    bed.podvm("rm", "-f", name)
    bed.close()


def copy_dirty(base):
    """Memory of its own that a copy with a container has."""
    bed = Bed(templates=True, memory="128M")
    check(bed.podvm("template", "create", "--net", "none"))
    name, owner = bed.sleep(base, "--net", "none")
    time.sleep(3)
    report.show("copy_dirty", "guest memory of its own, with a container",
                {"copy": b.guest_ram(owner)["Private_Dirty"]}, "MiB")
    bed.podvm("rm", "-f", name)
    bed.close()


def running(base):
    """What a container costs while it runs, and what can be done with it."""
    bed = Bed(memory="128M")
    guest_memory(bed, base)
    name, owner = bed.sleep(base)
    for pid in [owner] + b.children(owner):
        pss, private = b.memory(pid)
        report.show(f"pss_{b.comm(pid)}", f"host process {b.comm(pid)}: PSS", pss, "MiB",
                    f"private {private:.1f} MiB")
    times = []
    for _ in range(max(SAMPLES, 20)):
        began = time.monotonic()
        check(bed.podvm("exec", name, "true"))
        times.append((time.monotonic() - began) * 1e3)
    report.show("exec", "podvm exec true", times, "ms")
    size = 64
    began = time.monotonic()
    out = check(bed.podvm("exec", name, "dd", "if=/dev/zero", "bs=1M", f"count={size}"))
    assert len(out.stdout) == size << 20
    report.show("stdout", "stdout of an exec", size / (time.monotonic() - began), "MiB/s")
    began = time.monotonic()
    check(bed.podvm("exec", "-i", name, "sh", "-c", "cat >/dev/null", input=bytes(size << 20)))
    report.show("stdin", "stdin of an exec", size / (time.monotonic() - began), "MiB/s")
    bed.podvm("rm", "-f", name)
    bed.close()


def sizes():
    with open(f"{b.BUILD}/image/manifest.json") as f:
        manifest = json.load(f)
    total = 0
    for part in ("kernel", "rootfs"):
        total += manifest[part]["size"]
        report.show(f"size_{part}", f"guest image: {manifest[part]['file']}",
                    manifest[part]["size"] / 1e6, "MB")
    report.show("size_image", "guest image: both", total / 1e6, "MB")


# What the model of docs/benchmarks.md knows about a start: instructions, exits, pages that are made,
# and the stages of podvm run in which that happens.
MODEL = {"boot": ("boot_instructions", "boot_accesses", "guest_pages", ["boot"]),
         "copy": ("copy_start", "copy_accesses", "copy_dirty",
                  ["boot", "configure", "disks", "files", "create"])}


def model():
    """Its inputs; on a machine with KVM the time beside them is what its coefficients come from."""
    print(f"  {'model':<8}{'10^6 instructions':>20}{'exits':>10}{'pages':>10}{'measured':>12}")
    for name, (*keys, stages) in MODEL.items():
        instructions, exits, memory = (report.value(k) for k in keys)
        measured = sum(report.value(f"run_{s}", name) for s in stages)
        print(f"  {name:<8}{instructions:20.1f}{exits:10.0f}{memory * 256:10.0f}{measured:9.0f} ms",
              flush=True)


def start_report():
    """Columns: a machine that boots, or neither; a copy of a template; and one of the pool."""
    global report
    report = b.Report("PodVM", ("boot", "copy", "pool"))
    return report


def main():
    start_report()
    base = test_image("base")
    sizes()
    boot_instructions(base)
    guest_calls(base)
    copy_calls(base)
    pool_calls(base)
    b.attempt(stock_instructions)
    boot_accesses(base)
    b.attempt(host_syscalls, base)
    b.attempt(host_instructions, base)
    run_times(base)
    guest_pages(base)
    copy_accesses(base)
    copy_dirty(base)
    running(base)
    model()
    report.save("bench")


if __name__ == "__main__":
    main()
