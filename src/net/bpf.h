/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_NET_BPF_H
#define PODVM_NET_BPF_H

/* What the small BPF programs of net are written with: bpf(2), include/uapi/linux/bpf.h. */

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

/* An instruction: a compound literal with the fields that aren't 0. */
#define INSN(op, ...) ((struct bpf_insn){ .code = (op), __VA_ARGS__ })

/** bpf() - bpf(2). Return: 0, a descriptor, or a negative errno */
static inline int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

#endif
