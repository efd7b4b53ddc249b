#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leaves the padding out of a vmlinux: drop-padding.py IN OUT

Between sections that need an alignment of 1 or 2 MiB lie pages of nothing but INT3 or zeros, a fifth
of the file. A VMM that loads the file writes them, and then they are memory of the guest that its
host has to find. So segments are split where there are many of such pages. In fresh memory what
isn't loaded is zero; nothing reads what was INT3, which is never reached.

What remains is what loaders read: the ELF header, program headers and segments.
"""
import struct
import sys

PAGE = 4096
LEAST = 16  # pages; a shorter run isn't worth a program header
PT_LOAD, PT_NOTE = 1, 4
EHDR, PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
PADDING = (bytes(PAGE), b"\xcc" * PAGE)


def parts(data):
    """Where runs of pages begin and end that have to be loaded."""
    pages = range(0, len(data), PAGE)
    dropped = [data[i:i + PAGE] in PADDING for i in pages]
    start, i = 0, 0
    while i < len(dropped):
        end = i
        while end < len(dropped) and dropped[end]:
            end += 1
        if end - i >= LEAST:
            if start < i:
                yield start * PAGE, i * PAGE
            start = end
        i = max(end, i + 1)
    if start < len(dropped):
        yield start * PAGE, len(data)


def split(image, segment):
    """The PT_LOADs that replace one, as (flags, virtual, physical, size in memory, content)."""
    _, flags, offset, virtual, physical, size, memory, _ = segment
    data = image[offset:offset + size]
    for start, end in parts(data):
        yield flags, virtual + start, physical + start, end - start, data[start:end]
    # What the file doesn't have is zeroed by the loader: the kernel's data without a value.
    if memory > size:
        yield flags, virtual + size, physical + size, memory - size, b""


def rewrite(image):
    header = list(EHDR.unpack_from(image))
    segments = [PHDR.unpack_from(image, header[5] + i * PHDR.size) for i in range(header[10])]
    loads = [p for s in segments if s[0] == PT_LOAD for p in split(image, s)]
    notes = [s for s in segments if s[0] == PT_NOTE]
    table, body = [], bytearray()
    first = -(-(EHDR.size + (len(loads) + len(notes)) * PHDR.size) // PAGE) * PAGE
    for flags, virtual, physical, memory, data in loads:
        offset = first + len(body)
        table.append((PT_LOAD, flags, offset, virtual, physical, len(data), memory, PAGE))
        body += data + bytes(-len(data) % PAGE)
        # Notes are part of a segment as well.
        for _, nflags, _, nvirtual, nphysical, size, _, align in notes:
            if virtual <= nvirtual and nvirtual + size <= virtual + len(data):
                table.append((PT_NOTE, nflags, offset + nvirtual - virtual, nvirtual, nphysical,
                              size, size, align))
    header[5], header[6], header[10], header[11:] = EHDR.size, 0, len(table), [0, 0, 0]
    out = EHDR.pack(*header) + b"".join(PHDR.pack(*p) for p in table)
    return out + bytes(first - len(out)) + body


def main():
    with open(sys.argv[1], "rb") as f:
        image = f.read()
    with open(sys.argv[2], "wb") as f:
        f.write(rewrite(image))


if __name__ == "__main__":
    main()
