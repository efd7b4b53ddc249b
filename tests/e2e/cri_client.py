#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Calls one method of CRI's RuntimeService: cri_client.py SOCKET METHOD [JSON]

Prints the answer as JSON; of ExecSync it prints what the command printed and exits with its code.
The messages are compiled from cri.proto beside this file. Needs Debian's python3-grpcio,
python3-protobuf and protobuf-compiler.
"""
import os
import subprocess
import sys
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

TIMEOUT = 170


def load(path):
    """The service's descriptor, and a function from message descriptors to classes."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", "-I", os.path.dirname(path), "-o", out.name, path], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files.file[0])
    service = pool.FindServiceByName("runtime.v1.RuntimeService")
    if hasattr(message_factory, "GetMessageClass"):
        return service, message_factory.GetMessageClass
    return service, message_factory.MessageFactory(pool).GetPrototype


def main():
    socket, name = sys.argv[1:3]
    text = sys.argv[3] if len(sys.argv) > 3 else "{}"
    here = os.path.dirname(os.path.realpath(__file__))
    service, message = load(os.path.join(here, "cri.proto"))
    method = service.methods_by_name[name]
    request = json_format.Parse(text, message(method.input_type)())
    channel = grpc.insecure_channel("unix:" + socket)
    call = channel.unary_unary(
        f"/{service.full_name}/{name}",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=message(method.output_type).FromString)
    try:
        response = call(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        print(f"{name}: {error.code().name}: {error.details()}", file=sys.stderr)
        return 125
    if name == "ExecSync":
        sys.stdout.buffer.write(response.stdout)
        sys.stderr.buffer.write(response.stderr)
        return response.exit_code
    print(json_format.MessageToJson(response, preserving_proto_field_name=True,
                                    including_default_value_fields=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
