#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Uses the shim as CRI-O does (its internal/oci/runtime_vm.go): crio_client.py COMMAND...

start SHIM BUNDLE ID       run `start` in the bundle; prints the address
call ADDRESS METHOD JSON   call a method of the Task service; prints the answer as JSON
create ADDRESS JSON CONFIG call Create with runtime_config_path as options
exec ADDRESS ID EXEC JSON  call Exec with a process of runtime-spec

The messages are compiled from src/proto/containerd.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

TIMEOUT = 170
PROTO = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../src/proto/containerd")


def load():
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", "-I", PROTO, "--include_imports", "-o", out.name,
                        f"{PROTO}/task.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    if hasattr(message_factory, "GetMessageClass"):
        return pool, message_factory.GetMessageClass
    return pool, message_factory.MessageFactory(pool).GetPrototype


def start(shim, bundle, name):
    """No address of containerd, no events, no options; the log is a fifo."""
    os.mkfifo(f"{bundle}/log", 0o700)
    log = os.open(f"{bundle}/log", os.O_RDONLY | os.O_NONBLOCK)
    command = [shim, "-namespace", "default", "-address", "", "-publish-binary", "/usr/bin/crio",
               "-id", name, "-debug", "start"]
    env = dict(os.environ, GOMAXPROCS="2", MAX_SHIM_VERSION="2", TTRPC_ADDRESS="",
               GRPC_ADDRESS="", NAMESPACE="default")
    run = subprocess.run(command, cwd=bundle, env=env, stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(log)
    print(run.stdout.decode().strip())
    return run.returncode


def receive(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("ttrpc: closed")
        data += more
    return data


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(data):
    """Fields of a message that have a length: ttrpc's answers have no others that matter."""
    at = 0
    while at < len(data):
        tag = data[at]
        at += 1
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        if tag & 7 == 2:
            yield tag >> 3, data[at:at + value]
            at += value


def call(address, name, request, answer):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT)
    connection.connect(address.removeprefix("unix://"))
    body = field(1, b"containerd.task.v2.Task") + field(2, name.encode()) + \
        field(3, request.SerializeToString())
    connection.sendall(struct.pack(">IIBB", len(body), 1, 1, 0) + body)
    length, _, _, _ = struct.unpack(">IIBB", receive(connection, 10))
    parts = dict(fields(receive(connection, length)))
    if 1 in parts:
        print(f"{name}: {dict(fields(parts[1])).get(2, b'').decode()}", file=sys.stderr)
        return 1
    answer.ParseFromString(parts.get(2, b""))
    print(json_format.MessageToJson(answer, preserving_proto_field_name=True))
    return 0


def main():
    command, *args = sys.argv[1:]
    if command == "start":
        return start(*args)
    pool, message = load()
    service = pool.FindServiceByName("containerd.task.v2.Task")
    name = {"call": args[1], "create": "Create", "exec": "Exec"}[command]
    method = service.methods_by_name[name]
    request = message(method.input_type)()
    if command == "exec":
        request.id, request.exec_id = args[1:3]
        process = json.loads(args[3])
        request.stdin, request.stdout, request.stderr = process.pop("io")
        request.spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        request.spec.value = json.dumps(process).encode()
    else:
        json_format.Parse(args[2 if command == "call" else 1], request)
    if command == "create":
        request.options.type_url = "runtimeoptions.v1.Options"
        request.options.value = field(2, args[2].encode())
    return call(args[0], name, request, message(method.output_type)())


if __name__ == "__main__":
    sys.exit(main())
