# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the shim: pods of containerd's, in microVMs and with runc, taken in turns.

Both are runtimes of the same containerd, with the same image, network and calls. What differs is
what the runtime costs. Under emulation most of that is the emulator's.
"""
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from google.protobuf import json_format

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, f"{HERE}/../tests/e2e")
import cri_client  # noqa: E402

BUILD, SAMPLES = sys.argv[1], int(sys.argv[2])
SHIM = f"{BUILD}/src/shim/containerd-shim-podvm-v2"
IMAGE = "registry.local/base:1"
RUNTIMES = {"podvm": "io.containerd.podvm.v2", "runc": "io.containerd.runc.v2"}
BRIDGE, SUBNET = "pvbench0", "10.213.79"
results = {}

CONFIG = """
version = 2
root = "{dir}/root"
state = "{dir}/state"
[grpc]
  address = "{dir}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
"""

RUNTIME = """
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "{type}"
"""


def spread(values):
    """10th, 50th and 90th percentile."""
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return cuts[0], statistics.median(values), cuts[8]


def show(key, text, podvm, runc, unit):
    """One line: a figure of ours beside runc's. Each is a number, or a list of samples."""
    results[key] = {"podvm": podvm, "runc": runc, "unit": unit}
    cells = []
    for v in (podvm, runc):
        if isinstance(v, list):
            cells.append("{1:.0f} ({0:.0f} to {2:.0f})".format(*spread(v)))
        else:
            cells.append("-" if v is None else f"{v:,.2f}" if isinstance(v, float) else f"{v:,}")
    print(f"  {text:<44} {cells[0]:>24} {cells[1]:>24} {unit}", flush=True)


class Containerd:
    """One of our own, with both runtimes."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        self.write_config()
        self.env = dict(os.environ, PODVM_CONFIG=f"{self.dir}/podvm.conf",
                        PATH=f"{os.path.dirname(SHIM)}:{os.environ['PATH']}")
        self.process = subprocess.Popen(
            ["containerd", "-c", f"{self.dir}/config.toml"], env=self.env, stdin=subprocess.DEVNULL,
            stdout=open(f"{self.dir}/log", "w"), stderr=subprocess.STDOUT, start_new_session=True)
        self.load_image()
        service, message = cri_client.load(f"{HERE}/../tests/e2e/cri.proto")
        self.methods, self.message = service.methods_by_name, message
        self.name = service.full_name
        self.channel = grpc.insecure_channel(f"unix:{self.dir}/c.sock")
        self.wait_for_network()

    def write_config(self):
        with open(f"{self.dir}/config.toml", "w") as f:
            f.write(CONFIG.format(dir=self.dir, image=IMAGE))
            f.write("".join(RUNTIME.format(name=n, type=t) for n, t in RUNTIMES.items()))
        os.mkdir(f"{self.dir}/cni")
        with open(f"{self.dir}/cni/10-bench.conflist", "w") as f:
            json.dump({"cniVersion": "0.4.0", "name": "podvm-bench", "plugins": [
                {"type": "bridge", "bridge": BRIDGE, "isGateway": True,
                 "ipam": {"type": "host-local", "dataDir": f"{self.dir}/ipam",
                          "ranges": [[{"subnet": f"{SUBNET}.0/24"}]],
                          "routes": [{"dst": "0.0.0.0/0"}]}}]}, f)
        with open(f"{self.dir}/podvm.conf", "w") as f:
            f.write(f"[paths]\nimage={BUILD}/image\nstate={self.dir}/run\ncache={self.dir}/cache\n"
                    "[template]\nenabled=no\n[vm]\nmemory=128M\n[start]\nboot_timeout=300s\nagent_timeout=300s\n")
        os.chmod(f"{self.dir}/podvm.conf", 0o600)

    def ctr(self, *args):
        return subprocess.run(["ctr", "-a", f"{self.dir}/c.sock", *args], check=True,
                              capture_output=True, text=True).stdout

    def load_image(self):
        for _ in range(300):
            if os.path.exists(f"{self.dir}/c.sock"):
                break
            time.sleep(0.1)
        images = subprocess.run([f"{HERE}/../tests/e2e/images.sh"], capture_output=True, text=True,
                                check=True).stdout.strip().splitlines()[-1]
        subprocess.run(["skopeo", "copy", "-q", f"oci:{images}/oci:base", f"dir:{self.dir}/image"],
                       check=True)
        self.make_it_sleep(f"{self.dir}/image")
        subprocess.run(["skopeo", "copy", "-q", f"dir:{self.dir}/image",
                        f"oci-archive:{self.dir}/image.tar:{IMAGE}"], check=True)
        for namespace in ("default", "k8s.io"):
            self.ctr("-n", namespace, "image", "import", f"{self.dir}/image.tar")

    @staticmethod
    def make_it_sleep(image):
        """It's the pause image as well, which runc runs: its command mustn't end."""
        with open(f"{image}/manifest.json") as f:
            manifest = json.load(f)
        with open(f"{image}/{manifest['config']['digest'][7:]}") as f:
            config = json.load(f)
        config["config"]["Cmd"] = ["sleep", "100000"]
        text = json.dumps(config).encode()
        digest = hashlib.sha256(text).hexdigest()
        manifest["config"].update(digest=f"sha256:{digest}", size=len(text))
        with open(f"{image}/{digest}", "wb") as f:
            f.write(text)
        with open(f"{image}/manifest.json", "w") as f:
            json.dump(manifest, f)

    def wait_for_network(self):
        while not all(c.status for c in self.cri("Status").status.conditions):
            time.sleep(0.1)

    def cri(self, method, **request):
        m = self.methods[method]
        message = json_format.ParseDict(request, self.message(m.input_type)())
        call = self.channel.unary_unary(
            f"/{self.name}/{method}", request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=self.message(m.output_type).FromString)
        return call(message, timeout=600)

    def close(self):
        for pod in self.ctr("-n", "k8s.io", "container", "ls", "-q").split():
            try:
                self.cri("StopPodSandbox", pod_sandbox_id=pod)
                self.cri("RemovePodSandbox", pod_sandbox_id=pod)
            except grpc.RpcError:
                pass  # it's a container, which goes with its pod
        self.channel.close()
        self.process.terminate()
        self.process.wait()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)


class Pod:
    """A pod and how long its steps took, in milliseconds."""

    def __init__(self, containerd, runtime, name):
        self.cd, self.runtime, self.times = containerd, runtime, {}
        self.config = {"metadata": {"name": name, "uid": name, "namespace": "bench"},
                       "hostname": name, "log_directory": f"{containerd.dir}/logs",
                       "linux": {"cgroup_parent": "/podvm-bench"}}
        self.id = self.timed("RunPodSandbox", runtime_handler=runtime,
                             config=self.config).pod_sandbox_id

    def timed(self, method, **request):
        began = time.monotonic()
        answer = self.cd.cri(method, **request)
        self.times[method] = (time.monotonic() - began) * 1e3
        return answer

    def add_container(self, name="c"):
        config = {"metadata": {"name": name}, "image": {"image": IMAGE},
                  "command": ["sleep", "100000"], "log_path": f"{name}.log"}
        self.container = self.timed("CreateContainer", pod_sandbox_id=self.id, config=config,
                                    sandbox_config=self.config).container_id
        self.timed("StartContainer", container_id=self.container)

    def exec_true(self):
        self.timed("ExecSync", container_id=self.container, cmd=["true"], timeout=60)

    def remove(self):
        self.timed("StopPodSandbox", pod_sandbox_id=self.id)
        self.timed("RemovePodSandbox", pod_sandbox_id=self.id)

    def shim(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    line = f.read()
            except OSError:
                continue
            if "containerd-shim-" in line.split("\0")[0] and self.id in line:
                return int(pid)
        raise RuntimeError(f"no shim of {self.id}")


# ---- wall time ----

STEPS = ["RunPodSandbox", "CreateContainer", "StartContainer", "ExecSync", "StopPodSandbox",
         "RemovePodSandbox"]


def steps(cd):
    times = {(r, s): [] for r in RUNTIMES for s in STEPS}
    for i in range(SAMPLES):
        for runtime in RUNTIMES:
            pod = Pod(cd, runtime, f"{runtime}-{i}")
            pod.add_container()
            pod.exec_true()
            pod.remove()
            for s in STEPS:
                times[runtime, s].append(pod.times[s])
    for s in STEPS:
        show(s, s, times["podvm", s], times["runc", s], "ms")
    start = {r: [sum(t) for t in zip(*(times[r, s] for s in STEPS[:3]))] for r in RUNTIMES}
    show("pod_start", "the first three: a pod's start", start["podvm"], start["runc"], "ms")


def ctr_run(cd):
    times = {r: [] for r in RUNTIMES}
    for i in range(SAMPLES):
        for name, runtime in RUNTIMES.items():
            began = time.monotonic()
            cd.ctr("run", "--rm", "--runtime", runtime, IMAGE, f"{name}{i}", "true")
            times[name].append((time.monotonic() - began) * 1e3)
    show("ctr_run", "ctr run --rm true", times["podvm"], times["runc"], "ms")


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

def memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        text = f.read()

    def mib(*keys):
        return sum(int(re.search(rf"^{k}: +(\d+) kB", text, re.M).group(1)) for k in keys) / 1024
    return mib("Pss"), mib("Private_Clean", "Private_Dirty")


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            for child in f.read().split():
                found += [int(child)] + children(int(child))
    return found


def shims(cd):
    """The shims of pods with three containers, after many execs; and what else such a pod has."""
    pods = {}
    for runtime in RUNTIMES:
        pod = pods[runtime] = Pod(cd, runtime, f"memory-{runtime}")
        for i in range(3):
            pod.add_container(f"c{i}")
        for _ in range(100):
            pod.exec_true()
    shim = {r: p.shim() for r, p in pods.items()}
    pss, private = zip(*(memory(shim[r]) for r in RUNTIMES))
    show("shim_private", "shim, 3 containers, 100 execs: private", *private, "MiB")
    show("shim_pss", "... PSS", *pss, "MiB")
    show("shim_threads", "... threads", *(len(os.listdir(f"/proc/{shim[r]}/task"))
                                          for r in RUNTIMES), "")
    for pid in children(shim["podvm"]):
        with open(f"/proc/{pid}/comm") as f:
            name = f.read().strip()
        pss, private = memory(pid)
        show(f"pss_{name}_{pid}", f"{name} of that pod: PSS", pss, None,
             f"MiB (private {private:.2f})")
    for pod in pods.values():
        pod.remove()


def private_memory(cd):
    """The private memory of a node's second shim: what one more pod costs."""
    pods = [Pod(cd, "podvm", f"private-{i}") for i in range(2)]
    for pod in pods:
        pod.add_container()
    for _ in range(10):
        pods[1].exec_true()
    private = memory(pods[1].shim())[1]
    show("shim_private_second", "shim of a second pod, 10 execs: private", private, None, "MiB")
    for pod in pods:
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
        counts = [start_instructions(p, work, emulator)
                  for p in (SHIM, "/usr/bin/containerd-shim-runc-v2")]
    show("start_instructions", "instructions of `start`", *counts, "e6")


def main():
    print("Benchmarks of the shim: median (10th to 90th percentile), "
          f"{SAMPLES} samples, load average {os.getloadavg()[0]:.1f}")
    print(f"  {'':<44} {'podvm':>24} {'runc':>24}")
    instructions()
    cd = Containerd()
    try:
        steps(cd)
        ctr_run(cd)
        shims(cd)
        private_memory(cd)
        for n in (1, 5, 20):
            show(f"parallel_{n}", f"{n} pods at once, until all run", parallel(cd, n, "podvm"),
                 parallel(cd, n, "runc"), "ms")
    finally:
        cd.close()
    with open(f"{BUILD}/bench-shim.json", "w") as f:
        json.dump({"samples": SAMPLES, "load_at_end": os.getloadavg()[0], "results": results}, f,
                  indent=2)


if __name__ == "__main__":
    main()
