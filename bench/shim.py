# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the shim: pods of containerd's, in microVMs and with runc, taken in turns.

"podvm" boots its machines, "clone" starts them as copies of a template, "pool" has such copies
waiting. All are runtimes of the same containerd, with the same image, network and calls. What
differs is what the runtime costs. Under emulation most of that is the emulator's.
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
PODVM = f"{BUILD}/src/cli/podvm"
RUNTIMES = {"podvm": "io.containerd.podvm.v2", "clone": "io.containerd.podvm.v2",
            "pool": "io.containerd.podvm.v2", "runc": "io.containerd.runc.v2"}
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

OPTIONS = """
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      ConfigPath = "{config}"
"""

PODVM_CONFIG = """
[paths]
image={build}/image
state={dir}/run-{name}
cache={dir}/cache
[template]
enabled={templates}
[pool]
size=1
size_none=1
[vm]
memory=128M
[start]
boot_timeout=300s
agent_timeout=300s
"""


def spread(values):
    """10th, 50th and 90th percentile."""
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return cuts[0], statistics.median(values), cuts[8]


def cell(value):
    if isinstance(value, list):
        return "{1:.0f} ({0:.0f} to {2:.0f})".format(*spread(value))
    return "-" if value is None else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def show(key, text, values, unit):
    """One line: a figure of each runtime that has it. Each is a number, or a list of samples."""
    results[key] = dict(values, unit=unit)
    cells = "".join(f"{cell(values.get(r)):>24}" for r in RUNTIMES)
    print(f"  {text:<44} {cells} {unit}", flush=True)


class Containerd:
    """One of our own, with both runtimes."""

    def __init__(self):
        self.pool = None
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        self.write_config()
        self.env = dict(os.environ, PODVM_CONFIG=f"{self.dir}/podvm.conf",
                        PATH=":".join([os.path.dirname(SHIM), os.path.dirname(PODVM),
                                       os.environ["PATH"]]))
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
            for name, kind in RUNTIMES.items():
                f.write(RUNTIME.format(name=name, type=kind))
                if name != "runc":
                    f.write(OPTIONS.format(name=name, config=f"{self.dir}/{name}.conf"))
        os.mkdir(f"{self.dir}/cni")
        with open(f"{self.dir}/cni/10-bench.conflist", "w") as f:
            json.dump({"cniVersion": "0.4.0", "name": "podvm-bench", "plugins": [
                {"type": "bridge", "bridge": BRIDGE, "isGateway": True,
                 "ipam": {"type": "host-local", "dataDir": f"{self.dir}/ipam",
                          "ranges": [[{"subnet": f"{SUBNET}.0/24"}]],
                          "routes": [{"dst": "0.0.0.0/0"}]}}]}, f)
        for name, templates in ("podvm", "no"), ("clone", "yes"), ("pool", "yes"):
            with open(f"{self.dir}/{name}.conf", "w") as f:
                f.write(PODVM_CONFIG.format(build=BUILD, dir=self.dir, name=name,
                                            templates=templates))
            os.chmod(f"{self.dir}/{name}.conf", 0o600)

    def ctr_run(self, runtime, name):
        config = [] if runtime == "runc" else ["--runtime-config-path", f"{self.dir}/{runtime}.conf"]
        self.ctr("run", "--rm", "--runtime", RUNTIMES[runtime], *config, IMAGE, name, "true")

    def count_templates(self):
        out = subprocess.run([PODVM, "template", "list", "--json"], check=True, capture_output=True,
                             env=dict(self.env, PODVM_CONFIG=f"{self.dir}/clone.conf")).stdout
        return len(json.loads(out))

    def make_template(self, n, start):
        """The first machine of a kind boots, and its template is made beside it."""
        start()
        for _ in range(1200):
            if self.count_templates() == n:
                return
            time.sleep(0.1)
        raise RuntimeError("the template wasn't made")

    def make_pod_template(self, n):
        def pod():
            pod = Pod(self, "clone", "first")
            pod.remove()

        self.make_template(n, pod)

    def make_templates(self):
        self.make_template(1, lambda: self.ctr_run("clone", "first"))
        self.make_pod_template(2)

    def start_pool(self):
        env = dict(self.env, PODVM_CONFIG=f"{self.dir}/pool.conf")
        self.pool = subprocess.Popen([PODVM, "pool", "run"], env=env, stdin=subprocess.DEVNULL)

    def settle(self, runtime):
        """A machine that is being started for the pool is nobody's."""
        env = dict(self.env, PODVM_CONFIG=f"{self.dir}/pool.conf")
        while runtime == "pool":
            out = subprocess.run([PODVM, "pool", "status", "--json"], check=True,
                                 capture_output=True, env=env).stdout
            if len(json.loads(out)) == 2:
                return
            time.sleep(0.2)

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
        if self.pool:
            self.pool.terminate()
            self.pool.wait()
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
            cd.settle(runtime)
            pod = Pod(cd, runtime, f"{runtime}-{i}")
            pod.add_container()
            pod.exec_true()
            pod.remove()
            for s in STEPS:
                times[runtime, s].append(pod.times[s])
    for s in STEPS:
        show(s, s, {r: times[r, s] for r in RUNTIMES}, "ms")
    show("pod_start", "the first three: a pod's start",
         {r: [sum(t) for t in zip(*(times[r, s] for s in STEPS[:3]))] for r in RUNTIMES}, "ms")


def ctr_run(cd):
    times = {r: [] for r in RUNTIMES}
    for i in range(SAMPLES):
        for runtime in RUNTIMES:
            cd.settle(runtime)
            settled = time.monotonic()
            cd.ctr_run(runtime, f"{runtime}{i}")
            times[runtime].append((time.monotonic() - settled) * 1e3)
    show("ctr_run", "ctr run --rm true", times, "ms")


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


def guest_memory(shim):
    """Private pages of the largest mapping of its machine, which is the guest's memory."""
    found = []
    for pid in children(shim):
        with open(f"/proc/{pid}/smaps") as f:
            for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", f.read(), flags=re.M)[1:]:
                size = int(re.search(r"^Size: +(\d+)", part, re.M).group(1))
                dirty = int(re.search(r"^Private_Dirty: +(\d+)", part, re.M).group(1))
                if size == 128 << 10:
                    found.append(dirty)
    return max(found) / 1024


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
    used = {r: memory(pid) for r, pid in shim.items()}
    show("shim_private", "shim, 3 containers, 100 execs: private", {r: u[1] for r, u in used.items()},
         "MiB")
    show("shim_pss", "... PSS", {r: u[0] for r, u in used.items()}, "MiB")
    show("shim_threads", "... threads", {r: len(os.listdir(f"/proc/{p}/task")) for r, p in shim.items()},
         "")
    show("guest_dirty", "guest memory of that pod that is its own", {
        r: guest_memory(shim[r]) for r in ("podvm", "clone")}, "MiB")
    for runtime in ("podvm", "clone"):
        for pid in children(shim[runtime]):
            with open(f"/proc/{pid}/comm") as f:
                name = f.read().strip()
            pss, private = memory(pid)
            show(f"pss_{name}_{pid}", f"{name} of that pod: PSS", {runtime: pss},
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
    show("shim_private_second", "shim of a second pod, 10 execs: private", {"podvm": private}, "MiB")
    for pod in pods:
        pod.remove()


def idle_copy(cd):
    """What a pod without a container has of the guest's memory for itself, as a copy of a template."""
    if cd.count_templates() == 0:
        cd.make_pod_template(1)
    pod = Pod(cd, "clone", "idle")
    time.sleep(1)
    show("copy_idle", "guest memory of an idle pod that is its own", {"clone": guest_memory(pod.shim())},
         "MiB")
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
        programs = {"podvm": SHIM, "runc": "/usr/bin/containerd-shim-runc-v2"}
        counts = {r: start_instructions(p, work, emulator) for r, p in programs.items()}
    show("start_instructions", "instructions of `start`", counts, "e6")


def main():
    print("Benchmarks of the shim: median (10th to 90th percentile), "
          f"{SAMPLES} samples, load average {os.getloadavg()[0]:.1f}")
    print(f"  {'':<44} " + "".join(f"{r:>24}" for r in RUNTIMES))
    instructions()
    cd = Containerd()
    try:
        cd.make_templates()
        cd.start_pool()
        steps(cd)
        ctr_run(cd)
        shims(cd)
        private_memory(cd)
        idle_copy(cd)
        for n in (1, 5, 20):
            show(f"parallel_{n}", f"{n} pods at once, until all run",
                 {r: parallel(cd, n, r) for r in RUNTIMES}, "ms")
    finally:
        cd.close()
    with open(f"{BUILD}/bench-shim.json", "w") as f:
        json.dump({"samples": SAMPLES, "load_at_end": os.getloadavg()[0], "results": results}, f,
                  indent=2)


if __name__ == "__main__":
    main()
