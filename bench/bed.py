# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks stand on: SCRIPT BUILD [SAMPLES]

A Containerd of our own, configurations of podvm, what /proc tells of processes, and a Report of
figures that are printed as they come and written as JSON in the end.
"""
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
E2E = f"{HERE}/../tests/e2e"
BUILD = os.path.realpath(sys.argv[1])
SAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 3
PODVM = f"{BUILD}/src/cli/podvm"
SHIM = f"{BUILD}/src/shim/containerd-shim-podvm-v2"


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs).stdout


def attempt(measurement, *args):
    """What needs a tool that isn't to be had here stays unmeasured."""
    try:
        measurement(*args)
    except subprocess.CalledProcessError as e:
        print(f"  {measurement.__name__}: {e}", flush=True)


def test_images():
    """Directory of the images that the end-to-end tests use."""
    return run(f"{E2E}/images.sh").strip().splitlines()[-1]


def write_config(path, directory, **sections):
    """podvm.conf with state beside it and caches in a directory, which values may name as {dir}."""
    text = {"paths": {"image": f"{BUILD}/image", "state": path.removesuffix(".conf"),
                      "cache": f"{directory}/cache"},
            "start": {"boot_timeout": "10min", "agent_timeout": "10min"}}
    for name, keys in sections.items():
        text.setdefault(name, {}).update(keys)
    with open(path, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        for name, keys in text.items():
            lines = (f"{k}={v}\n".format(dir=directory) for k, v in keys.items())
            f.write(f"[{name}]\n" + "".join(lines))


def wait_until(condition, what, seconds=600):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it took too long: {what}")
        time.sleep(0.1)


# ---- containerd ----

CONTAINERD = """
version = 2
root = "{dir}/root"
state = "{dir}/state"
{more}
[grpc]
  address = "{dir}/c.sock"
"""


class Containerd:
    """One with runc and podvm, whose configurations (a dictionary of sections each) have names."""

    def __init__(self, configs, more='disabled_plugins = ["io.containerd.grpc.v1.cri"]'):
        self.dir = tempfile.mkdtemp(prefix="pvbench.", dir="/tmp")
        os.chmod(self.dir, 0o711)
        for name, sections in configs.items():
            write_config(f"{self.dir}/{name}.conf", self.dir, **sections)
        with open(f"{self.dir}/config.toml", "w", encoding="ascii") as f:
            f.write(CONTAINERD.format(dir=self.dir, more=more.format(dir=self.dir)))
        self.env = dict(os.environ, PATH=":".join([os.path.dirname(SHIM), os.path.dirname(PODVM),
                                                   os.environ["PATH"]]))
        with open(f"{self.dir}/log", "w", encoding="ascii") as log:
            self.process = subprocess.Popen(
                ["containerd", "-c", f"{self.dir}/config.toml"], env=self.env, stdout=log,
                stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        wait_until(lambda: os.path.exists(f"{self.dir}/c.sock"), "containerd's start")

    def log(self):
        with open(f"{self.dir}/log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def ctr(self, *args):
        return run("ctr", "-a", f"{self.dir}/c.sock", *args)

    def ctr_run(self, runtime, image, *command, options=("--rm",)):
        """A container of runc or of a configuration of podvm; its name."""
        name = f"{runtime}-{time.monotonic_ns()}"
        kind = "runc" if runtime == "runc" else "podvm"
        config = () if runtime == "runc" else ("--runtime-config-path", f"{self.dir}/{runtime}.conf")
        self.ctr("run", *options, "--runtime", f"io.containerd.{kind}.v2", *config, image, name,
                 *command)
        return name

    def ctr_exec(self, name, *command):
        return self.ctr("task", "exec", "--exec-id", f"e{time.monotonic_ns()}", name, *command)

    def ctr_remove(self, name):
        self.ctr("task", "delete", "-f", name)
        self.ctr("container", "rm", name)

    def podvm(self, config, *args):
        return run(PODVM, *args, env=dict(self.env, PODVM_CONFIG=f"{self.dir}/{config}.conf"))

    def load(self, source, name, namespaces=("default",)):
        archive = f"{self.dir}/image.tar"
        run("skopeo", "copy", "-q", source, f"oci-archive:{archive}:{name}")
        for namespace in namespaces:
            self.ctr("-n", namespace, "image", "import", archive)
        os.remove(archive)
        return name

    def make_template(self, config, start):
        """The first machine of a kind boots, and its template is made beside it."""
        def templates():
            return len(json.loads(self.podvm(config, "template", "list", "--json")))

        before = templates()
        start()
        wait_until(lambda: templates() > before, "a template")

    def close(self):
        for name in self.ctr("task", "ls", "-q").split():
            self.ctr_remove(name)
        self.process.terminate()
        self.process.wait()
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir], check=True)


# ---- processes ----

def children(pid):
    """All below a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            for child in f.read().split():
                found += [int(child)] + children(int(child))
    return found


def comm(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read().strip()


def shim_of(container):
    """The shim's process: of a pod, or of a container of containerd's own."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
                line = f.read().split("\0")
        except OSError:
            continue
        if "containerd-shim-" in line[0] and container in line:
            return int(pid)
    raise RuntimeError(f"no shim of {container}")


def memory(pid):
    """Pss and private memory of a process, in MiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        text = f.read()

    def mib(*keys):
        return sum(int(re.search(rf"^{k}: +(\d+) kB", text, re.M).group(1)) for k in keys) / 1024
    return mib("Pss"), mib("Private_Clean", "Private_Dirty")


def mappings(pid):
    """Of each mapping of a process: its first line, and a dictionary of its figures in kB."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", f.read(), flags=re.M)[1:]:
            yield (part.split("\n", 1)[0],
                   {k: int(v) for k, v in re.findall(r"^(\w+): +(\d+) kB", part, re.M)})


def guest_ram(owner, mib=128):
    """Figures in MiB of the memory of the machine that a process, or one below it, is."""
    found = [figures for pid in [owner] + children(owner) for _, figures in mappings(pid)
             if figures["Size"] == mib << 10]
    return {k: v / 1024 for k, v in max(found, key=lambda figures: figures["Rss"]).items()}


# ---- figures ----

def spread(values):
    """10th, 50th and 90th percentile."""
    if len(values) == 1:
        return values * 3
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return cuts[0], statistics.median(values), cuts[8]


def number(value):
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def cell(value):
    if isinstance(value, list):
        if len(value) == 1:
            return number(value[0])
        low, middle, high = map(number, spread(value))
        return f"{middle} ({low} to {high})"
    return "-" if value is None else number(value)


def as_json(value):
    if isinstance(value, list):
        return dict(zip(("p10", "p50", "p90"), spread(value)), samples=value)
    return value


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        model = re.search(r"model name\s*: (.*)", f.read()).group(1)
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "qemu": run("qemu-system-x86_64", "--version").splitlines()[0],
            "load": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


class Report:
    """Figures, each with a value for some of the columns: a number, or a list of samples."""

    def __init__(self, title, columns=("",)):
        self.columns, self.figures, self.machine = columns, {}, machine()
        print(f"{title}:", ", ".join(f"{k} {v}" for k, v in self.machine.items()))
        print(f"  {'':<54}" + "".join(f"{c:>26}" for c in columns), flush=True)

    def show(self, key, text, values, unit="", note=""):
        """@values: A dictionary; what isn't one is the first column's."""
        if not isinstance(values, dict):
            values = {self.columns[0]: values}
        self.figures[key] = {"text": text, "unit": unit, "note": note,
                             "values": {c: as_json(v) for c, v in values.items()}}
        cells = "".join(f"{cell(values.get(c)):>26}" for c in self.columns)
        print(f"  {text:<54}{cells} {unit} {note}".rstrip(), flush=True)

    def value(self, key, column=None):
        """Of a column, or the first that has one, the median where there are samples; or None."""
        values = self.figures.get(key, {"values": {}})["values"]
        columns = [column] if column else self.columns
        value = next((values[c] for c in columns if c in values), None)
        return value["p50"] if isinstance(value, dict) else value

    def save(self, name):
        result = {"machine": self.machine, "load_at_end": os.getloadavg()[0], "figures": self.figures}
        with open(f"{BUILD}/{name}.json", "w", encoding="ascii") as f:
            json.dump(result, f, indent=1)
        print(f"written to {BUILD}/{name}.json", flush=True)
