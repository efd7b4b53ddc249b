/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps passt from the host's loopback addresses.
 *
 * --no-map-gw only means that the gateway's address isn't mapped to the host. passt of Debian 12
 * still opens a connection to 127.0.0.1 when a guest sends a frame that says so, which a guest's
 * kernel never does by itself but whoever is root in it can make it do; later ones drop such
 * frames. So passt runs in a cgroup whose BPF programs refuse connect(2) and sendto(2) to loopback
 * and unspecified addresses, except for queries to a resolver (UDP, port 53). A socket belongs to
 * the cgroup that it was made in, and passt makes some in advance: so it has to be there from its
 * start.
 *
 * The cgroup is a child of our own one, which keeps limits and accounting as they are. It's shared
 * by all passt processes that were started there: programs are attached anew each time, which
 * replaces equal ones, and it goes with the last process.
 *
 * bpf(2), include/uapi/linux/bpf.h; struct bpf_sock_addr has addresses and ports in network order.
 */
#include <asm/byteorder.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "net/bpf.h"
#include "net/internal.h"

#define GUARD_NAME  "podvm-passt"
#define CGROUP_TEXT ((size_t)64 << 10)
#define MAX_TRIES   16
#define DNS_PORT    53

/* What the programs are made of. A jump skips so many instructions; RETURN() is two of them. */
#define FIELD(name) ((int16_t) __builtin_offsetof(struct bpf_sock_addr, name))
#define LOAD(name)  INSN(BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = FIELD(name))
#define AND(value)  INSN(BPF_ALU | BPF_AND | BPF_K, .dst_reg = 2, .imm = (int32_t)(value))
#define JUMP(skip)  INSN(BPF_JMP | BPF_JA, .off = (skip))
#define IF_EQUAL(value, skip) \
	INSN(BPF_JMP32 | BPF_JEQ | BPF_K, .dst_reg = 2, .off = (skip), .imm = (int32_t)(value))
#define IF_OTHER(value, skip) \
	INSN(BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = 2, .off = (skip), .imm = (int32_t)(value))
#define RETURN(value) \
	INSN(BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = (value)), INSN(BPF_JMP | BPF_EXIT)

/* For a loopback address: 1 for a query to a resolver, else 0. */
#define VERDICT                                               \
	LOAD(type), IF_OTHER(SOCK_DGRAM, 4), LOAD(user_port), \
		IF_OTHER(__constant_htons(DNS_PORT), 2), RETURN(1), RETURN(0)

#define NET_OF(a) __constant_htonl((uint32_t)(a) << 24)

/* 127.0.0.0/8, and 0.0.0.0/8, which the kernel takes for loopback. */
static const struct bpf_insn program4[] = {
	LOAD(user_ip4),		AND(NET_OF(255)), IF_EQUAL(NET_OF(127), 3), /* to the verdict */
	IF_EQUAL(NET_OF(0), 2), RETURN(1),	  VERDICT,
};

/* ::1 and ::, and the IPv4 ones as ::ffff:a.b.c.d. */
static const struct bpf_insn program6[] = {
	LOAD(user_ip6[0]),
	IF_OTHER(0, 13), /* to RETURN(1) */
	LOAD(user_ip6[1]),
	IF_OTHER(0, 11),
	LOAD(user_ip6[2]),
	IF_EQUAL(__constant_htonl(0xffff), 5),
	IF_OTHER(0, 8),
	LOAD(user_ip6[3]),
	IF_EQUAL(__constant_htonl(1), 8), /* to the verdict */
	IF_EQUAL(0, 7),
	JUMP(4),
	LOAD(user_ip6[3]), /* IPv4 */
	AND(NET_OF(255)),
	IF_EQUAL(NET_OF(127), 3),
	IF_EQUAL(NET_OF(0), 2),
	RETURN(1),
	VERDICT,
};

static const struct {
	enum bpf_attach_type type;
	const struct bpf_insn *insns;
	uint32_t n;
} programs[] = {
	{ BPF_CGROUP_INET4_CONNECT, program4, ARRAY_SIZE(program4) },
	{ BPF_CGROUP_UDP4_SENDMSG, program4, ARRAY_SIZE(program4) },
	{ BPF_CGROUP_INET6_CONNECT, program6, ARRAY_SIZE(program6) },
	{ BPF_CGROUP_UDP6_SENDMSG, program6, ARRAY_SIZE(program6) },
};

static int attach(int cgroup, size_t i)
{
	_cleanup_(close_fdp) int prog = -EBADF;
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
	attr.expected_attach_type = programs[i].type;
	attr.insns = (uintptr_t)programs[i].insns;
	attr.insn_cnt = programs[i].n;
	attr.license = (uintptr_t) "Apache-2.0";
	prog = bpf(BPF_PROG_LOAD, &attr);
	if (prog < 0)
		return prog;
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)cgroup;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = programs[i].type;
	return bpf(BPF_PROG_ATTACH, &attr);
}

/* Path of our own cgroup in the unified hierarchy, wherever that is mounted. */
static int own_cgroup(char **ret)
{
	_cleanup_(freep) char *text = NULL;
	const char *mount = "/sys/fs/cgroup";
	struct statfs fs;
	char *line;
	int r;

	if (statfs(mount, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		mount = "/sys/fs/cgroup/unified";
	if (statfs(mount, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return -ENOENT;
	r = file_read(AT_FDCWD, "/proc/self/cgroup", CGROUP_TEXT, &text, NULL);
	if (r < 0)
		return r;
	line = str_starts(text, "0::") ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line = strchr(line, ':') + 2;
	line[strcspn(line, "\n")] = '\0';
	*ret = str_printf("%s%s", mount, line);
	return *ret ? 0 : -ENOMEM;
}

/* Return: Descriptor of cgroup.procs; -ENOENT or -ENODEV when another pod has just removed it */
static int open_cgroup(int parent)
{
	_cleanup_(close_fdp) int cgroup = -EBADF;
	int r = 0;

	if (mkdirat(parent, GUARD_NAME, 0755) < 0 && errno != EEXIST)
		return -errno;
	cgroup = openat(parent, GUARD_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (cgroup < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(programs) && r == 0; i++)
		r = attach(cgroup, i);
	if (r < 0)
		return r;
	r = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return r < 0 ? -errno : r;
}

int net_guard_parent(void)
{
	_cleanup_(freep) char *path = NULL;
	int r = own_cgroup(&path);
	int fd;

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Return: As net_guard_spawn(), or -ENODEV when the cgroup was removed meanwhile */
static int try_spawn(int parent, struct spawn *s, pid_t *ret_pid, struct err *e)
{
	_cleanup_(close_fdp) int procs = parent < 0 ? parent : open_cgroup(parent);

	if (parent >= 0 && (procs == -ENOENT || procs == -ENODEV))
		return err_errno(e, -ENODEV, "cannot make a cgroup for %s", s->path);
	if (procs < 0)
		log_warn("an old passt lets root in the guest connect to the host's loopback "
			 "addresses: cannot forbid it",
			 "reason=\"%s\"", strerror(-procs));
	s->cgroup_fd = procs;
	return spawn_start(s, ret_pid, e);
}

int net_guard_spawn(struct spawn *s, pid_t *ret_pid, int *ret_cgroup, struct err *e)
{
	_cleanup_(close_fdp) int parent = net_guard_parent();
	struct err why = { 0 };
	int r = -ENODEV;

	for (int i = 0; i < MAX_TRIES && r == -ENODEV; i++)
		r = try_spawn(parent, s, ret_pid, &why);
	if (r < 0 && e)
		*e = why;
	if (r < 0)
		net_guard_remove(parent);
	else
		*ret_cgroup = TAKE_FD(parent);
	return r;
}

void net_guard_remove(int cgroup)
{
	if (cgroup >= 0) /* EBUSY: others still use it */
		unlinkat(cgroup, GUARD_NAME, AT_REMOVEDIR);
}
