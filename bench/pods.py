# SPDX-License-Identifier: Apache-2.0
"""Pods that CRI runs, of runc and of podvm's configurations."""
import hashlib
import json
import os
import subprocess
import sys
import time

import grpc
from google.protobuf import json_format

import bed as b

sys.path.insert(0, b.E2E)
import cri_client  # noqa: E402

IMAGE = "registry.local/base:1"
BRIDGE, SUBNET = "pvbench0", "10.213.79"

CRI = """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{{dir}}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""

RUNTIME = """
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.podvm.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      ConfigPath = "{{dir}}/{name}.conf"
"""


class Cri(b.Containerd):
    """A containerd with a CNI bridge and the image. Handlers are runc and the configurations."""

    def __init__(self, configs):
        more = CRI.format(image=IMAGE) + "".join(RUNTIME.format(name=name) for name in configs)
        super().__init__(configs, more)
        os.makedirs(f"{self.dir}/cni", exist_ok=True)
        with open(f"{self.dir}/cni/10-bench.conflist", "w", encoding="ascii") as f:
            json.dump({"cniVersion": "0.4.0", "name": "podvm-bench", "plugins": [
                {"type": "bridge", "bridge": BRIDGE, "isGateway": True,
                 "ipam": {"type": "host-local", "dataDir": f"{self.dir}/ipam",
                          "ranges": [[{"subnet": f"{SUBNET}.0/24"}]],
                          "routes": [{"dst": "0.0.0.0/0"}]}}]}, f)
        self.load_image()
        service, message = cri_client.load(f"{b.E2E}/cri.proto")
        self.methods, self.message = service.methods_by_name, message
        self.name = service.full_name
        self.channel = grpc.insecure_channel(f"unix:{self.dir}/c.sock")
        b.wait_until(lambda: all(c.status for c in self.cri("Status").status.conditions),
                     "the network")

    def load_image(self):
        image = f"{self.dir}/image"
        b.run("skopeo", "copy", "-q", f"oci:{b.test_images()}/oci:base", f"dir:{image}")
        # It's the pause image as well, which runc runs: its command mustn't end.
        with open(f"{image}/manifest.json", encoding="utf-8") as f:
            manifest = json.load(f)
        with open(f"{image}/{manifest['config']['digest'][7:]}", encoding="utf-8") as f:
            config = json.load(f)
        config["config"]["Cmd"] = ["sleep", "100000"]
        text = json.dumps(config).encode()
        digest = hashlib.sha256(text).hexdigest()
        manifest["config"].update(digest=f"sha256:{digest}", size=len(text))
        with open(f"{image}/{digest}", "wb") as f:
            f.write(text)
        with open(f"{image}/manifest.json", "w", encoding="utf-8") as f:
            json.dump(manifest, f)
        self.load(f"dir:{image}", IMAGE, ("default", "k8s.io"))

    def cri(self, method, **request):
        m = self.methods[method]
        message = json_format.ParseDict(request, self.message(m.input_type)())
        call = self.channel.unary_unary(
            f"/{self.name}/{method}", request_serializer=lambda r: r.SerializeToString(),
            response_deserializer=self.message(m.output_type).FromString)
        return call(message, timeout=600)

    def make_pod_template(self, config):
        self.make_template(config, lambda: Pod(self, config, "first").remove())

    def close(self):
        for pod in self.cri("ListPodSandbox").items:
            self.cri("StopPodSandbox", pod_sandbox_id=pod.id)
            self.cri("RemovePodSandbox", pod_sandbox_id=pod.id)
        self.channel.close()
        super().close()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False)


class Pod:
    """A pod and how long its steps took, in milliseconds."""

    def __init__(self, containerd, runtime, name):
        self.cd, self.times = containerd, {}
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

    def exec(self, *command):
        return self.timed("ExecSync", container_id=self.container, cmd=list(command),
                          timeout=60).stdout.decode()

    def remove(self):
        self.timed("StopPodSandbox", pod_sandbox_id=self.id)
        self.timed("RemovePodSandbox", pod_sandbox_id=self.id)

    def shim(self):
        return b.shim_of(self.id)
