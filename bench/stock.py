# SPDX-License-Identifier: Apache-2.0
"""The baseline: Debian's stock cloud kernel with a static init that prints the time stamp counter.

It runs in the same QEMU with the same flags as our guest, under -icount, where the counter is the
number of instructions.
"""
import glob
import lzma
import re
import subprocess
import zlib

INIT = r"""
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>
#include <x86intrin.h>
int main(void)
{
	printf("INIT TSC %llu\n", (unsigned long long)__rdtsc());
	fflush(stdout);
	reboot(RB_AUTOBOOT);
	return 0;
}
"""


def fetch_kernel(work):
    """Download and unpack the newest linux-image-*-cloud-amd64; nothing is installed."""
    deps = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"],
                          capture_output=True, text=True, check=True).stdout
    package = re.search(r"linux-image-\S+-cloud-amd64", deps.split("Depends:", 1)[1]).group(0)
    subprocess.run(["apt-get", "download", "-q", package], cwd=work, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["dpkg", "-x", glob.glob(f"{work}/{package}_*.deb")[0], f"{work}/pkg"],
                   check=True)
    return package, glob.glob(f"{work}/pkg/boot/vmlinuz-*")[0]


def extract_vmlinux(bzimage, vmlinux):
    """The ELF inside of a bzImage: the payload that unpacks to one."""
    data = open(bzimage, "rb").read()

    def program(*command):
        return lambda d: subprocess.run(command, input=d, capture_output=True).stdout

    packers = [(b"\xfd7zXZ\x00", lambda d: lzma.LZMADecompressor().decompress(d)),
               (b"\x02\x21\x4c\x18", program("lz4", "-dcq")),
               (b"\x28\xb5\x2f\xfd", program("zstd", "-dcq")),
               (b"\x1f\x8b\x08", lambda d: zlib.decompressobj(31).decompress(d))]
    for magic, unpack in packers:
        for m in re.finditer(re.escape(magic), data):
            try:
                elf = unpack(data[m.start():])
            except (lzma.LZMAError, zlib.error):
                continue
            if elf[:4] == b"\x7fELF":
                with open(vmlinux, "wb") as f:
                    f.write(elf)
                return
    raise RuntimeError(f"no kernel found in {bzimage}")


def make_initrd(work):
    """A cpio archive (newc) with nothing but /init and /dev/console."""
    with open(f"{work}/init.c", "w") as f:
        f.write(INIT)
    subprocess.run(["gcc", "-O2", "-static", "-o", f"{work}/init", f"{work}/init.c"], check=True)

    def entry(name, mode, data=b"", rdev=(0, 0)):
        name = name.encode() + b"\0"
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1], len(name), 0]
        head = b"070701" + b"".join(b"%08x" % v for v in fields) + name
        head += b"\0" * (-len(head) % 4)
        return head + data + b"\0" * (-len(data) % 4)

    init = open(f"{work}/init", "rb").read()
    with open(f"{work}/initrd", "wb") as f:
        f.write(entry("dev", 0o40755) + entry("dev/console", 0o20600, rdev=(5, 1)) +
                entry("init", 0o100755, init) + entry("TRAILER!!!", 0))


def instructions(work, memory=256):
    """Instructions from reset to the first line of init."""
    package, bzimage = fetch_kernel(work)
    extract_vmlinux(bzimage, f"{work}/vmlinux")
    make_initrd(work)
    cmdline = ("console=ttyS0 quiet panic=-1 reboot=t mitigations=off nolapic_timer "
               "tsc_early_khz=1000000 tsc=reliable no_timer_check noreplace-smp")
    out = subprocess.run(
        ["qemu-system-x86_64", "-M",
         "microvm,accel=tcg,acpi=off,pcie=off,pit=on,pic=on,rtc=on,isa-serial=on,x-option-roms=off",
         "-icount", "shift=0,sleep=off", "-m", str(memory), "-smp", "1", "-cpu", "max",
         "-no-user-config", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio",
         "-kernel", f"{work}/vmlinux", "-initrd", f"{work}/initrd", "-append", cmdline],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300).stdout
    return package, int(re.search(r"INIT TSC (\d+)", out).group(1))
