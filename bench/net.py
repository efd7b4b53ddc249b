#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The network of pods, measured with iperf3: net.py [-r ROUNDS] [-c CPUS] [-m MACHINE] BUILD...

One network namespace is the node: it has a bridge. Two more are pods on it, each given to a VM, and
two are the same without one. With several builds their VMs take turns, so that what else the machine
does meets all of them alike. Needs root, iperf3 and ping.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
SECONDS = 3


def run(*args):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True).stdout


def at(namespace, *args):
    return run("ip", "netns", "exec", namespace, *args)


def make_node(name):
    run("ip", "netns", "add", name)
    for command in ("link set lo up", "link add br0 type bridge", "addr add 10.95.0.1/24 dev br0",
                    "link set br0 up"):
        run("ip", "-n", name, *command.split())


def make_pod(node, number):
    name = f"{node}-{number}"
    run("ip", "netns", "add", name)
    for namespace, command in ((name, "link set lo up"),
                               (name, f"link add eth0 type veth peer name v{number} netns {node}"),
                               (name, f"addr add 10.95.0.{number}/24 dev eth0"),
                               (name, "link set eth0 up"),
                               (node, f"link set v{number} master br0 up")):
        run("ip", "-n", namespace, *command.split())
    return name


def iperf(prefix, server, *options):
    """What has arrived: bytes, and bits_per_second."""
    out = run(*prefix, "iperf3", "-J", "-t", str(SECONDS), "-c", server, *options)
    return json.loads(out)["end"]["sum_received"]


def wait_for_server(prefix):
    run("timeout", "60", *prefix, "sh", "-c", "until ss -ltn | grep -q :5201; do sleep 0.1; done")


def cpu_seconds(pid):
    """User and system time of a process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def counters(namespace):
    return json.loads(run("ip", "-n", namespace, "-s", "-j", "link", "show", "eth0"))[0]["stats64"]


def measure(client, prefix, other, figures, pid):
    """Figures of the pod @client, whose programs run with @prefix; @other is a second pod's address,
    @pid the client's monitor or None."""
    ways = (("to the host", "10.95.0.1", ()), ("from the host", "10.95.0.1", ("-R",)),
            ("to another pod", other, ()), ("from another pod", other, ("-R",)),
            ("to the host, 4 streams", "10.95.0.1", ("-P", "4")),
            ("from the host, 4 streams", "10.95.0.1", ("-P", "4", "-R")))
    for what, server, options in ways:
        before = counters(client)
        cpu = cpu_seconds(pid) if pid else 0
        arrived = iperf(prefix, server, *options)
        figures.setdefault(what, []).append(arrived["bits_per_second"] / 1e6)
        figures.setdefault(what + ", monitor's CPU seconds per GB", []).append(
            (cpu_seconds(pid) - cpu) / arrived["bytes"] * 1e9 if pid else 0)
        after = counters(client)
        way = "rx" if "-R" in options else "tx"
        figures.setdefault(what + ", bytes per frame", []).append(
            (after[way]["bytes"] - before[way]["bytes"]) /
            (after[way]["packets"] - before[way]["packets"]))
    out = run(*prefix, "ping", "-q", "-c", "50", "-i", "0.02", "10.95.0.1")
    figures.setdefault("round trip in ms", []).append(float(out.rsplit("= ", 1)[1].split("/")[1]))


class Machines:
    """Two pods in VMs of one build."""

    def __init__(self, build, work, args, node, first):
        self.podvm = os.path.join(build, "src/cli/podvm")
        self.pods = [make_pod(node, first), make_pod(node, first + 1)]
        self.address = f"10.95.0.{first + 1}"
        self.config = os.path.join(work, f"podvm{first}.conf")
        with open(self.config, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(f"[paths]\nimage = {build}/image\nstate = {work}/state\ncache = {work}/cache\n"
                    f"[template]\nenabled = no\n[vm]\nvcpus = {args.cpus}\n[vmm]\nmachine = {args.machine}\n"
                    "[start]\nboot_timeout = 120s\nagent_timeout = 120s\n")
        self.names = [f"bench{first}", f"bench{first + 1}"]

    def call(self, *args):
        return ["env", f"PODVM_CONFIG={self.config}", self.podvm, *args]

    def start(self, image):
        for name, pod, command in zip(self.names, self.pods, ("sleep 100000", "iperf3 -s")):
            run(*self.call("run", "-d", "--name", name, "--cap-add", "NET_RAW", "--net",
                           f"ns:/run/netns/{pod}", image, *command.split()))
        wait_for_server(self.call("exec", self.names[1]))

    def measure(self, figures):
        pid = json.loads(run(*self.call("inspect", self.names[0])))[0]["vmm_pid"]
        measure(self.pods[0], self.call("exec", self.names[0]), self.address, figures, pid)

    def stop(self):
        run(*self.call("rm", "-f", *self.names))


def bench(args, work, node, processes):
    image = f"oci:{run(HERE + '/../tests/e2e/images.sh').strip()}/oci:debian"
    machines = [Machines(os.path.realpath(b), work, args, node, 10 + 2 * i)
                for i, b in enumerate(args.build)]
    plain = [make_pod(node, 2), make_pod(node, 3)]
    for namespace in (node, plain[1]):
        processes.append(subprocess.Popen(["ip", "netns", "exec", namespace, "iperf3", "-s"],
                                          stdout=subprocess.DEVNULL))
        wait_for_server(["ip", "netns", "exec", namespace])
    results = {name: {} for name in ["no VM", *args.build]}
    for _ in range(args.rounds):
        measure(plain[0], ["ip", "netns", "exec", plain[0]], "10.95.0.3", results["no VM"],
                None)
        for build, m in zip(args.build, machines):
            m.start(image)
            try:
                m.measure(results[build])
            finally:
                m.stop()
    return results


def show(results):
    names = list(results)
    print("| Mbit/s, TCP | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for what in results[names[0]]:
        cells = []
        for name in names:
            v = results[name][what]
            digits = 2 if " ms" in what or "CPU" in what else 0
            cells.append(f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f} to {max(v):.{digits}f})")
        print(f"| {what} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-c", "--cpus", type=int, default=1)
    parser.add_argument("-m", "--machine", default="microvm")
    parser.add_argument("build", nargs="+")
    args = parser.parse_args()
    for tool in "iperf3", "ping":
        if not shutil.which(tool):
            sys.exit(f"net.py: there is no {tool}: apt-get install iperf3 iputils-ping")
    node = f"bench-{os.getpid()}"
    processes = []
    with tempfile.TemporaryDirectory(prefix="podvm-net-") as work:
        try:
            make_node(node)
            show(bench(args, work, node, processes))
        finally:
            for p in processes:
                p.kill()
                p.wait()
            for line in run("ip", "netns", "list").splitlines():
                name = line.split()[0]
                if name == node or name.startswith(node + "-"):
                    run("ip", "netns", "del", name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
