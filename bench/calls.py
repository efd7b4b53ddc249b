#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""QEMU, with a relay on the agent's channel that says what each call costs the guest.

Stands for QEMU in podvm.conf. Beside it lie count.so (guest_count.c), `entry`, which says where crun
begins, and `calls`, where each call of the agent that has been answered becomes a line: its name, the
instructions that the guest has executed from the request to the answer, what it has executed until
then since QEMU has started, instructions and blocks of code that are different, and the
instructions since crun has begun, 0 if that was before the request.
"""
import mmap
import os
import re
import select
import socket
import struct
import sys

HERE = os.path.dirname(os.path.realpath(sys.argv[0]))
QEMU = "qemu-system-x86_64"
REQUEST, RESPONSE = 1, 2


def method(request):
    """Field 2 of ttrpc's Request."""
    i = 0
    while i < len(request):
        tag, length, shift = request[i], 0, 0
        while True:
            i += 1
            length |= (request[i] & 127) << shift
            shift += 7
            if request[i] < 128:
                break
        i += 1
        if tag == 2 << 3 | 2:
            return request[i:i + length].decode()
        i += length if tag & 7 == 2 else 0
    return "?"


class Relay:
    def __init__(self, host, guest, count):
        self.host, self.guest = host, guest
        self.count = mmap.mmap(os.open(count, os.O_RDONLY), 24, prot=mmap.PROT_READ)
        self.began = {}
        self.log = open(f"{HERE}/calls", "a")

    def frames(self, data, request):
        while len(data) >= 10:
            length, stream, kind = struct.unpack_from(">IIB", data)
            if len(data) < 10 + length:
                return
            now, blocks, crun = struct.unpack("<QQQ", self.count[:24])
            if request and kind == REQUEST:
                self.began[stream] = method(bytes(data[10:10 + length])), now
            elif not request and kind == RESPONSE and stream in self.began:
                name, began = self.began.pop(stream)
                crun = now - crun if crun > began else 0
                self.log.write(f"{name} {now - began} {now} {blocks} {crun}\n")
                self.log.flush()
            del data[:10 + length]

    def run(self):
        buffers = {self.host: bytearray(), self.guest: bytearray()}
        while True:
            for s in select.select(list(buffers), [], [])[0]:
                data = s.recv(65536)
                if not data:
                    return
                buffers[s] += data
                self.frames(buffers[s], s is self.host)
                (self.guest if s is self.host else self.host).sendall(data)


def main():
    args, agent = [], None
    for a in sys.argv[1:]:
        a = a.replace("accel=kvm", "accel=tcg")
        a = re.sub(r"tsc_early_khz=\d+", "tsc_early_khz=1000000", a)
        match = re.match(r"socket,id=agent,fd=(\d+)", a)
        if match:
            agent = int(match.group(1))
            ours, theirs = socket.socketpair()
            os.set_inheritable(theirs.fileno(), True)
            a = f"socket,id=agent,fd={theirs.fileno()},server=off"
        args.append(a)
    # QEMU is also asked what it can do.
    if agent is None:
        os.execvp(QEMU, [QEMU] + args)
    count = f"{HERE}/count.{os.getpid()}"
    with open(count, "wb") as f:
        f.write(bytes(24))
    with open(f"{HERE}/entry", encoding="ascii") as f:
        plugin = f"{HERE}/count.so,out={count},entry={f.read()}"
    if os.fork():
        # Counted instructions are also the guest's time, so that the number of its ticks is fixed.
        os.execvp(QEMU, [QEMU] + args + ["-icount", "shift=0", "-plugin", plugin])
    theirs.close()
    Relay(socket.socket(fileno=agent), ours, count).run()


if __name__ == "__main__":
    main()
