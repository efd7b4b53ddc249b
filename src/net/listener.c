/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One socket that listens on every TCP port of a network namespace's loopback addresses.
 *
 * When a SYN looks for a listening socket, the namespace's BPF program of type sk_lookup (since
 * Linux 5.9, Documentation/bpf/prog_sk_lookup.rst) is asked first. It assigns the only socket of a
 * map if the destination is 127.0.0.0/8 or ::1. The socket is an IPv6 one that takes IPv4 as well;
 * which port it listens on itself doesn't matter.
 */
#include <asm/byteorder.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "net/bpf.h"
#include "net/pod_internal.h"

#define BACKLOG 128
/* 127.0.0.0/8 in network order. */
#define NET_LOOPBACK __constant_htonl((uint32_t)127 << 24)
#define NET_MASK     __constant_htonl((uint32_t)255 << 24)

/* What the program is made of. A jump skips so many instructions; LOAD_MAP() is two of them. */
#define FIELD(name) ((int16_t) __builtin_offsetof(struct bpf_sk_lookup, name))
#define LOAD(name)  INSN(BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 6, .off = FIELD(name))
#define IF_OTHER(value, skip) \
	INSN(BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = 2, .off = (skip), .imm = (int32_t)(value))
#define IF_NULL(reg, skip) INSN(BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = (reg), .off = (skip))
#define JUMP(skip)	   INSN(BPF_JMP | BPF_JA, .off = (skip))
#define MOVE(to, from)	   INSN(BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from))
#define SET(to, value)	   INSN(BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (value))
#define ADD(to, value)	   INSN(BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = (to), .imm = (value))
#define AND(to, value)	   INSN(BPF_ALU | BPF_AND | BPF_K, .dst_reg = (to), .imm = (int32_t)(value))
#define STORE(offset, value) \
	INSN(BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = (offset), .imm = (value))
#define LOAD_MAP(to, map)                                                              \
	INSN(BPF_LD | BPF_DW | BPF_IMM, .dst_reg = (to), .src_reg = BPF_PSEUDO_MAP_FD, \
	     .imm = (map)),                                                            \
		INSN(0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, .imm = (function))

/* Make the socket in the namespace. Gets and returns a descriptor through @data. */
static int open_socket(void *data)
{
	_cleanup_(close_fdp) int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	int zero = 0;

	/* The host has no IPv6 at all. */
	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	else if (fd >= 0 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0)
		return -errno;
	if (fd < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*(int *)data = TAKE_FD(fd);
	return 0;
}

/* A map that holds the socket. Return: Descriptor or a negative errno */
static int make_map(int sock)
{
	_cleanup_(close_fdp) int map = -EBADF;
	uint64_t value = (uint64_t)sock;
	uint32_t key = 0;
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SOCKMAP,
		.key_size = sizeof(key),
		.value_size = sizeof(value),
		.max_entries = 1,
	};
	int r;

	map = bpf(BPF_MAP_CREATE, &attr);
	if (map < 0)
		return map;
	attr = (union bpf_attr){
		.map_fd = (uint32_t)map,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)&value,
	};
	r = bpf(BPF_MAP_UPDATE_ELEM, &attr);
	return r < 0 ? r : TAKE_FD(map);
}

/* Return: Descriptor of the program or a negative errno */
static int load_program(int map)
{
	/* Registers: 0 result, 1-5 arguments, 6 context, 7 the socket, 10 frame. */
	const struct bpf_insn insns[] = {
		MOVE(6, 1),
		LOAD(protocol),
		IF_OTHER(IPPROTO_TCP, 28), /* to the end, as all that follow */
		LOAD(family),
		IF_OTHER(AF_INET, 4), /* to IPv6 */
		LOAD(local_ip4),
		AND(2, NET_MASK),
		IF_OTHER(NET_LOOPBACK, 23),
		JUMP(8),	    /* to the look-up */
		LOAD(local_ip6[0]), /* IPv6 */
		IF_OTHER(0, 20),
		LOAD(local_ip6[1]),
		IF_OTHER(0, 18),
		LOAD(local_ip6[2]),
		IF_OTHER(0, 16),
		LOAD(local_ip6[3]),
		IF_OTHER(__constant_htonl(1), 14),
		STORE(-4, 0), /* the look-up: the key is 0 */
		LOAD_MAP(1, map),
		MOVE(2, 10),
		ADD(2, -4),
		CALL(BPF_FUNC_map_lookup_elem),
		IF_NULL(0, 7),
		MOVE(7, 0),
		MOVE(1, 6),
		MOVE(2, 7),
		SET(3, 0),
		CALL(BPF_FUNC_sk_assign),
		MOVE(1, 7),
		CALL(BPF_FUNC_sk_release),
		SET(0, SK_PASS), /* the end */
		INSN(BPF_JMP | BPF_EXIT),
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SK_LOOKUP,
		.expected_attach_type = BPF_SK_LOOKUP,
		.insns = (uintptr_t)insns,
		.insn_cnt = ARRAY_SIZE(insns),
		.license = (uintptr_t) "Apache-2.0",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

int net_listener_open(int ns, int *ret_socket, int *ret_link)
{
	_cleanup_(close_fdp) int sock = -EBADF;
	_cleanup_(close_fdp) int map = -EBADF;
	_cleanup_(close_fdp) int program = -EBADF;
	union bpf_attr attr;
	int link;
	int r;

	r = net_ns_run(ns, open_socket, &sock);
	if (r < 0)
		return r;
	map = make_map(sock);
	if (map < 0)
		return map;
	program = load_program(map);
	if (program < 0)
		return program;
	attr = (union bpf_attr){
		.link_create = {
			.prog_fd = (uint32_t)program,
			.target_fd = (uint32_t)ns,
			.attach_type = BPF_SK_LOOKUP,
		},
	};
	link = bpf(BPF_LINK_CREATE, &attr);
	if (link < 0)
		return link;
	*ret_socket = TAKE_FD(sock);
	*ret_link = link;
	return 0;
}
