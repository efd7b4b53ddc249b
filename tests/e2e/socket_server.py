#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server on a unix socket: socket_server.py PATH stream|seqpacket [MODE]

The first line (of a seqpacket socket: message) says what a connection is for:

  echo      everything comes back
  send N    N bytes come, and then the end; what is said meanwhile is read
  sink      everything is read up to the end, then its length comes
  who       uid, pid and control groups of who has connected come

What happens is told on standard output, a line each.
"""
import os
import socket
import struct
import sys
import threading

CHUNK = bytes(range(256)) * 128


def tell(*words):
    print(*words, flush=True)


def echo(conn, rest, messages):
    if rest:
        conn.sendall(rest)
    while data := conn.recv(1 << 16):
        conn.send(data) if messages else conn.sendall(data)


def send(conn, count):
    left = count
    while left > 0:
        n = min(left, len(CHUNK))
        conn.sendall(CHUNK[:n])
        left -= n
        tell("sent", count - left)
    conn.shutdown(socket.SHUT_WR)
    while conn.recv(1 << 16):
        pass


def sink(conn, rest):
    total = len(rest)
    while data := conn.recv(1 << 16):
        total += len(data)
    conn.sendall(b"%d" % total)


def who(conn):
    pid, uid, _ = struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    with open(f"/proc/{pid}/cgroup", "rb") as f:
        return b"%d %d\n" % (uid, pid) + f.read()


def first_line(conn, messages):
    if messages:
        return conn.recv(1 << 16).rstrip(b"\n"), b""
    data = b""
    while b"\n" not in data:
        more = conn.recv(1 << 16)
        if not more:
            break
        data += more
    line, _, rest = data.partition(b"\n")
    return line, rest


def serve(conn, messages):
    line, rest = first_line(conn, messages)
    words = line.split() or [b"nothing"]
    tell("begin", words[0].decode())
    try:
        if words[0] == b"echo":
            echo(conn, rest, messages)
        elif words[0] == b"send":
            send(conn, int(words[1]))
        elif words[0] == b"sink":
            sink(conn, rest)
        elif words[0] == b"who":
            conn.sendall(who(conn))
    except OSError as e:
        tell("error", e.__class__.__name__)
    conn.close()
    tell("end", words[0].decode())


def main():
    path, kind = sys.argv[1:3]
    messages = kind == "seqpacket"
    listener = socket.socket(socket.AF_UNIX,
                             socket.SOCK_SEQPACKET if messages else socket.SOCK_STREAM)
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    if len(sys.argv) > 3:
        os.chmod(path, int(sys.argv[3], 8))
    listener.listen(5)
    tell("ready")
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=(conn, messages), daemon=True).start()


main()
