#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a terminal of its own and talks to it.

    terminal.py [--size ROWSxCOLUMNS] COMMAND [ARGUMENT...] <SCRIPT

The script has one order a line:

    expect REGEX        wait until the output since the last match matches
    send TEXT           type; \\r, \\x03 and the like are understood
    sendfile FILE       type what is in a file
    save FILE BYTES     the next so many bytes of output go to a file
    resize ROWSxCOLUMNS change the size of the terminal
    hangup              close the terminal

Afterwards it waits for the command's end, prints what the command printed, and exits as it did
(128 + signal when a signal ended it); 99 if an expected text didn't come in time, or if nothing
went on for that long.
"""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

DEADLINE = 300


class Session:
    def __init__(self, size, argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            set_size(0, size)
            os.execvp(argv[0], argv)
        os.set_blocking(self.fd, False)
        self.log = b""  # all that it printed
        self.new = b""  # since the last match
        self.open = True

    def turn(self, to_write=b""):
        """Wait for output, or for room for input. Returns how much was written."""
        ready = select.select([self.fd], [self.fd] if to_write else [], [], 1)
        if self.fd in ready[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                data = b""
            self.open = bool(data)
            self.new += data
            self.log = (self.log + data)[-65536:]
        if self.fd in ready[1]:
            try:
                return os.write(self.fd, to_write[:4096])
            except BlockingIOError:
                return 0
        return 0

    def expect(self, regex):
        end = time.monotonic() + DEADLINE
        while not (found := re.search(regex.encode(), self.new)):
            if not self.open or time.monotonic() > end:
                self.give_up(f"expected {regex!r}")
            self.turn()
        self.new = self.new[found.end():]

    def send(self, data):
        end = time.monotonic() + DEADLINE
        data = memoryview(data)  # slices of it are no copies
        while data:
            if not self.open or time.monotonic() > end:
                self.give_up(f"{len(data)} bytes of input weren't taken")
            if written := self.turn(data):
                data = data[written:]
                end = time.monotonic() + DEADLINE

    def save(self, path, count):
        end = time.monotonic() + DEADLINE
        with open(path, "wb") as out:
            while count > 0:
                taken, self.new = self.new[:count], self.new[count:]
                out.write(taken)
                count -= len(taken)
                if count and (not self.open or time.monotonic() > end):
                    self.give_up(f"{count} bytes are missing")
                if taken:
                    end = time.monotonic() + DEADLINE
                if count:
                    self.turn()

    def finish(self):
        """Read to the end; the exit code."""
        end = time.monotonic() + DEADLINE
        while self.open:
            if time.monotonic() > end:
                self.give_up("it doesn't end")
            self.turn()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return status if status >= 0 else 128 - status

    def give_up(self, why):
        print(f"terminal.py: {why}; got {self.new[-4096:]!r}\nall: {self.log[-8192:]!r}")
        os.kill(self.pid, 15)
        sys.exit(99)


def set_size(fd, size):
    rows, columns = (int(n) for n in size.split("x"))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def unescape(text):
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def obey(session, line):
    order, _, rest = line.rstrip("\n").partition(" ")
    if order == "expect":
        session.expect(rest)
    elif order == "send":
        session.send(unescape(rest))
    elif order == "sendfile":
        with open(rest, "rb") as f:
            session.send(f.read())
    elif order == "save":
        path, count = rest.split()
        session.save(path, int(count))
    elif order == "resize":
        set_size(session.fd, rest)
    elif order == "hangup":
        os.close(session.fd)
        session.open = False
    elif order:
        sys.exit(f"terminal.py: what is {order!r}?")


def main():
    args = sys.argv[1:]
    size = "24x80"
    if args[0] == "--size":
        size, args = args[1], args[2:]
    session = Session(size, args)
    for line in sys.stdin:
        obey(session, line)
    code = session.finish()
    sys.stdout.buffer.write(session.log)
    sys.exit(code)


if __name__ == "__main__":
    main()
