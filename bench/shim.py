# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the shim: pods of containerd's, in microVMs and with runc, taken in turns.

"boot" boots its machines, "copy" starts them as copies of a template, "pool" has such copies
waiting. All are runtimes of the same containerd, with the same image, network and calls. What
differs is what the runtime costs. Under emulation most of that is the emulator's.
"""
import json
import os
import re
import subprocess
import tempfile
import threading
import time

import grpc

import bed as b
from bed import HERE, SAMPLES, SHIM
from pods import IMAGE, Cri, Pod

RUNTIMES = ("boot", "copy", "pool", "runc")
report = None


class Bed(Cri):
    """All ways to start, each with state of its own: a pool is for those who have its state."""

    def __init__(self):
        self.pool = None
        vm = {"vm": {"memory": "128M"}}
        super().__init__({"boot": {**vm, "template": {"enabled": "no"}}, "copy": vm,
                          "pool": {**vm, "pool": {"size": 1, "size_none": 1}}})

    def start_pool(self):
        env = dict(self.env, PODVM_CONFIG=f"{self.dir}/pool.conf")
        self.pool = subprocess.Popen([b.PODVM, "pool", "run"], env=env, stdin=subprocess.DEVNULL)

    def settle(self, runtime):
        """A machine that is being started for the pool is nobody's."""
        if runtime == "pool":
            b.wait_until(lambda: len(json.loads(self.podvm("pool", "pool", "status", "--json"))) == 2,
                         "the pool")

    def close(self):
        if self.pool:
            self.pool.terminate()
            self.pool.wait()
        super().close()


# ---- wall time ----

STEPS = ["RunPodSandbox", "CreateContainer", "StartContainer", "ExecSync", "StopPodSandbox",
         "RemovePodSandbox"]


def steps(cd):
    times = {s: {r: [] for r in RUNTIMES} for s in STEPS}
    for i in range(SAMPLES):
        for runtime in RUNTIMES:
            cd.settle(runtime)
            pod = Pod(cd, runtime, f"{runtime}-{i}")
            pod.add_container()
            pod.exec("true")
            pod.remove()
            for s in STEPS:
                times[s][runtime].append(pod.times[s])
    for s in STEPS:
        report.show(s, s, times[s], "ms")
    report.show("pod_start", "the first three: a pod's start",
                {r: [sum(t) for t in zip(*(times[s][r] for s in STEPS[:3]))] for r in RUNTIMES}, "ms")


def ctr_run(cd):
    times = {r: [] for r in RUNTIMES}
    for _ in range(SAMPLES):
        for runtime in RUNTIMES:
            cd.settle(runtime)
            settled = time.monotonic()
            cd.ctr_run(runtime, IMAGE, "true")
            times[runtime].append((time.monotonic() - settled) * 1e3)
    report.show("ctr_run", "ctr run --rm true", times, "ms")


def parallel(cd, n, runtime):
    """Milliseconds until n pods with a container run; they are begun at once. None if one fails."""
    pods, errors = [], []

    def one(i):
        try:
            pod = Pod(cd, runtime, f"par-{runtime}-{n}-{i}")
            pods.append(pod)
            pod.add_container()
        except grpc.RpcError as e:
            errors.append(e)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = round((time.monotonic() - began) * 1e3)
    for pod in pods:
        pod.remove()
    for e in errors:
        print(f"  {runtime}, {n} at once: {e.details()}", flush=True)
    return None if errors else took


# ---- memory ----

def shims(cd):
    """The shims of pods with three containers, after many execs; and what else such a pod has."""
    pods = {r: Pod(cd, r, f"memory-{r}") for r in RUNTIMES}
    for pod in pods.values():
        for i in range(3):
            pod.add_container(f"c{i}")
        for _ in range(100):
            pod.exec("true")
    shim = {r: p.shim() for r, p in pods.items()}
    used = {r: b.memory(pid) for r, pid in shim.items()}
    show = report.show
    show("shim_private", "shim, 3 containers, 100 execs: private", {r: u[1] for r, u in used.items()},
         "MiB")
    show("shim_pss", "... PSS", {r: u[0] for r, u in used.items()}, "MiB")
    show("shim_threads", "... threads", {r: len(os.listdir(f"/proc/{p}/task")) for r, p in shim.items()})
    show("guest_dirty", "guest memory of that pod that is its own",
         {r: b.guest_ram(shim[r])["Private_Dirty"] for r in ("boot", "copy")}, "MiB")
    show("qemu_pss", "QEMU of that pod: PSS",
         {r: max(b.memory(pid)[0] for pid in b.children(shim[r])) for r in ("boot", "copy")}, "MiB")
    for pod in pods.values():
        pod.remove()


def private_memory(cd):
    """The private memory of a node's second shim: what one more pod costs."""
    pods = [Pod(cd, "boot", f"private-{i}") for i in range(2)]
    for pod in pods:
        pod.add_container()
    for _ in range(10):
        pods[1].exec("true")
    private = b.memory(pods[1].shim())[1]
    report.show("shim_private_second", "shim of a second pod, 10 execs: private", {"boot": private}, "MiB")
    for pod in pods:
        pod.remove()


def idle_copy(cd):
    """What a pod without a container has of the guest's memory for itself, as a copy of a template."""
    pod = Pod(cd, "copy", "idle")
    time.sleep(1)
    report.show("copy_idle", "guest memory of an idle pod that is its own",
                {"copy": b.guest_ram(pod.shim())["Private_Dirty"]}, "MiB")
    pod.remove()


# ---- instructions ----

def fetch_emulator(work):
    """QEMU's user-mode emulation with a plugin that counts; nothing is installed."""
    subprocess.run(["apt-get", "download", "-q", "qemu-user"], cwd=work, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    package = next(f for f in os.listdir(work) if f.endswith(".deb"))
    subprocess.run(["dpkg", "-x", f"{work}/{package}", f"{work}/qemu"], check=True)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", f"{work}/count.so",
                    f"{HERE}/count.c"], check=True)
    return [f"{work}/qemu/usr/bin/qemu-x86_64", "-plugin", f"{work}/count.so,out={work}/count"]


def start_instructions(program, work, emulator):
    """Of one `start` that makes a shim, in user mode."""
    with open(f"{work}/config.json", "w") as f:
        json.dump({"ociVersion": "1.0.2", "annotations": {}}, f)
    # Go's shim gets no further than to the start of its daemon, because the emulation doesn't know
    # the flags of its clone(): what's counted of it is too little, not too much.
    out = subprocess.run(
        emulator + [program, "-namespace", "bench", "-address", f"{work}/c.sock",
                    "-publish-binary", "/usr/bin/containerd", "-id", "bench", "start"],
        cwd=work, env=dict(os.environ, TTRPC_ADDRESS=f"{work}/none"), capture_output=True,
        text=True, timeout=300).stdout
    for socket in re.findall(r"unix://(\S+)", out):
        listener = subprocess.run(["ss", "-xlpH", "src", socket], capture_output=True, text=True,
                                  check=True).stdout
        for pid in set(re.findall(r"pid=(\d+)", listener)):
            os.kill(int(pid), 15)
    with open(f"{work}/count") as f:
        return int(f.read()) / 1e6


def instructions():
    with tempfile.TemporaryDirectory(prefix="pvbench.") as work:
        os.chmod(work, 0o755)
        emulator = fetch_emulator(work)
        programs = {"boot": SHIM, "runc": "/usr/bin/containerd-shim-runc-v2"}
        counts = {r: start_instructions(p, work, emulator) for r, p in programs.items()}
    report.show("start_instructions", "instructions of `start`", counts, "e6")


def start_report():
    global report
    report = b.Report("The shim", RUNTIMES)
    return report


def main():
    start_report()
    b.attempt(instructions)
    cd = Bed()
    try:
        cd.make_template("copy", lambda: cd.ctr_run("copy", IMAGE, "true"))
        cd.make_pod_template("copy")
        cd.start_pool()
        steps(cd)
        ctr_run(cd)
        shims(cd)
        private_memory(cd)
        idle_copy(cd)
        for n in (1, 5, 20):
            report.show(f"parallel_{n}", f"{n} pods at once, until all run",
                        {r: parallel(cd, n, r) for r in RUNTIMES}, "ms")
    finally:
        cd.close()
    report.save("bench-shim")


if __name__ == "__main__":
    main()
