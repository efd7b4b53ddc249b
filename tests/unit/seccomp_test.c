/* SPDX-License-Identifier: Apache-2.0 */
/* System call filters as programs: what they answer is found by running them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <openssl/evp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "oci/seccomp_internal.h"
#include "oci/spec_internal.h"

#define ALLOW	SECCOMP_RET_ALLOW
#define FAIL(n) (SECCOMP_RET_ERRNO | (n))

struct program {
	struct sock_filter insns[BPF_MAXINSNS];
	size_t n;
};

static bool holds(const struct sock_filter *i, uint32_t a)
{
	switch (BPF_OP(i->code)) {
	case BPF_JEQ:
		return a == i->k;
	case BPF_JGE:
		return a >= i->k;
	case BPF_JGT:
		return a > i->k;
	default:
		assert_int_equal(BPF_OP(i->code), BPF_JSET);
		return a & i->k;
	}
}

/* As the kernel does it. */
static uint32_t run(const struct program *p, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < p->n; pc++) {
		const struct sock_filter *i = &p->insns[pc];

		if (i->code == (BPF_LD | BPF_W | BPF_ABS))
			memcpy(&a, (const char *)data + i->k, sizeof(a));
		else if (i->code == (BPF_ALU | BPF_AND | BPF_K))
			a &= i->k;
		else if (i->code == (BPF_JMP | BPF_JA))
			pc += i->k;
		else if (BPF_CLASS(i->code) == BPF_JMP)
			pc += holds(i, a) ? i->jt : i->jf;
		else if (i->code == (BPF_RET | BPF_K))
			return i->k;
		else
			fail_msg("unexpected instruction %#x", i->code);
	}
	fail_msg("the program has no end");
	return 0;
}

static uint32_t call(const struct program *p, long number, uint64_t arg)
{
	const struct seccomp_data data = { .nr = (int)number,
					   .arch = AUDIT_ARCH_X86_64,
					   .args = { arg } };

	return run(p, &data);
}

/* ---- specs ---- */

/* The program of a spec with that filter, or what was wrong with it. */
static int compile(const char *seccomp, struct program *ret, struct err *e)
{
	_cleanup_(json_putp) struct json_object *spec = NULL;
	struct json_object *l;
	struct json_object *all;
	const char *text;
	_cleanup_(freep) char *json = str_printf("{\"linux\":{\"seccomp\":%s}}", seccomp);
	int n;

	assert_int_equal(json_parse(json, strlen(json), "spec", &spec, e), 0);
	n = oci_seccomp_compile(spec, e);
	if (n < 0)
		return n;
	l = json_get(json_get(spec, "linux", json_type_object), "seccomp", json_type_object);
	all = json_get(spec, "annotations", json_type_object);
	if (!all)
		return -ENOENT;
	/* crun needs it to be there, and nothing of what has become the program. */
	assert_non_null(json_get(l, "defaultAction", json_type_string));
	assert_null(json_get(l, "syscalls", json_type_array));
	text = json_object_get_string(json_get(all, "run.oci.seccomp_bpf_data", json_type_string));
	n = EVP_DecodeBlock((unsigned char *)ret->insns, (const unsigned char *)text,
			    (int)strlen(text));
	ret->n = (size_t)n / sizeof(*ret->insns);
	return 0;
}

static void test_default_filter(void **state)
{
	static const struct oci_users nobody;
	struct oci_run_options o = { 0 };
	_cleanup_(json_putp) struct json_object *spec = NULL;
	_cleanup_(freep) char *seccomp = NULL;
	_cleanup_(freep) char *text = NULL;
	struct program p;
	struct err e = { 0 };
	const char *data;
	int n;

	strv_add(&o.args, "sh");
	assert_int_equal(oci_spec_build(&o, NULL, &nobody, &text, &e), 0);
	assert_int_equal(json_parse(text, strlen(text), "spec", &spec, &e), 0);
	data = json_object_get_string(json_get(json_get(spec, "annotations", json_type_object),
					       "run.oci.seccomp_bpf_data", json_type_string));
	assert_non_null(data);
	n = EVP_DecodeBlock((unsigned char *)p.insns, (const unsigned char *)data,
			    (int)strlen(data));
	p.n = (size_t)n / sizeof(*p.insns);
	/* A search among ranges: libseccomp's list has more than 500. */
	assert_in_range(p.n, 50, 300);

	assert_int_equal(call(&p, SYS_read, 0), ALLOW);
	assert_int_equal(call(&p, SYS_execve, 0), ALLOW);
	assert_int_equal(call(&p, SYS_mount, 0), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_bpf, 0), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_clone3, 0), FAIL(ENOSYS));
	assert_int_equal(call(&p, 1000, 0), FAIL(ENOSYS));
	/* By their arguments. */
	assert_int_equal(call(&p, SYS_clone, CLONE_VM | CLONE_THREAD), ALLOW);
	assert_int_equal(call(&p, SYS_clone, CLONE_NEWUSER), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_clone, CLONE_VM | CLONE_NEWNS), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_socket, AF_INET), ALLOW);
	assert_int_equal(call(&p, SYS_socket, AF_VSOCK), FAIL(EAFNOSUPPORT));
	assert_int_equal(call(&p, SYS_socket, AF_INET | 1ULL << 32), FAIL(EAFNOSUPPORT));
	assert_int_equal(call(&p, SYS_personality, 0), ALLOW);
	assert_int_equal(call(&p, SYS_personality, 0x0400000), FAIL(ENOSYS));
	strv_done(&o.args);
}

static void test_other_architectures(void **state)
{
	static const char one[] = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":"
				  "[\"SCMP_ARCH_X86_64\"],\"syscalls\":[{\"names\":[\"read\"],"
				  "\"action\":\"SCMP_ACT_ALLOW\"}]}";
	static const char two[] = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":"
				  "[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X32\"],\"syscalls\":[]}";
	const struct seccomp_data i386 = { .nr = 3, .arch = AUDIT_ARCH_I386 };
	struct program p;
	struct err e = { 0 };

	assert_int_equal(compile(one, &p, &e), 0);
	assert_int_equal(call(&p, SYS_read, 0), ALLOW);
	assert_int_equal(call(&p, SYS_write, 0), FAIL(EPERM));
	assert_int_equal(call(&p, 0x40000000 | SYS_read, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(run(&p, &i386), SECCOMP_RET_KILL_THREAD);

	/* It knows x32's programs: they're not ended. */
	assert_int_equal(compile(two, &p, &e), 0);
	assert_int_equal(call(&p, 0x40000000 | SYS_read, 0), FAIL(EPERM));
}

static void test_actions(void **state)
{
	static const char text[] =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":["
		"{\"names\":[\"mkdir\",\"no_such_call\"],\"action\":\"SCMP_ACT_ERRNO\","
		"\"errnoRet\":30},"
		"{\"names\":[\"rmdir\"],\"action\":\"SCMP_ACT_ERRNO\"},"
		"{\"names\":[\"chmod\"],\"action\":\"SCMP_ACT_KILL\"},"
		"{\"names\":[\"chown\"],\"action\":\"SCMP_ACT_KILL_PROCESS\"},"
		"{\"names\":[\"link\"],\"action\":\"SCMP_ACT_TRACE\",\"errnoRet\":7},"
		"{\"names\":[\"unlink\"],\"action\":\"SCMP_ACT_TRAP\"},"
		"{\"names\":[\"rename\"],\"action\":\"SCMP_ACT_LOG\"},"
		"{\"names\":[\"close\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":["
		"{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"},"
		"{\"index\":0,\"value\":9,\"op\":\"SCMP_CMP_GT\"}]}]}";
	struct program p;
	struct err e = { 0 };

	assert_int_equal(compile(text, &p, &e), 0);
	assert_int_equal(call(&p, SYS_mkdir, 0), FAIL(EROFS));
	assert_int_equal(call(&p, SYS_rmdir, 0), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_chmod, 0), SECCOMP_RET_KILL_THREAD);
	assert_int_equal(call(&p, SYS_chown, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(call(&p, SYS_link, 0), SECCOMP_RET_TRACE | 7);
	assert_int_equal(call(&p, SYS_unlink, 0), SECCOMP_RET_TRAP);
	assert_int_equal(call(&p, SYS_rename, 0), SECCOMP_RET_LOG);
	assert_int_equal(call(&p, SYS_read, 0), ALLOW);
	/* Either of two conditions on one argument. */
	assert_int_equal(call(&p, SYS_close, 5), FAIL(EPERM));
	assert_int_equal(call(&p, SYS_close, 6), ALLOW);
	assert_int_equal(call(&p, SYS_close, 10), FAIL(EPERM));
}

static void test_what_is_wrong(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"defaultAction\":\"SCMP_ACT_NOTHING\"}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":65536}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[7]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
		"\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],"
		"\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"op\":\"==\"}]}]}",
	};
	struct program p;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = { 0 };

		assert_int_equal(compile(bad[i], &p, &e), -EINVAL);
		assert_non_null(strstr(e.msg, "system call filter: "));
	}
}

/* A process outside of the guest can't be asked: crun says so. */
static void test_listener_is_left_alone(void **state)
{
	struct program p;
	struct err e = { 0 };

	assert_int_equal(compile("{\"defaultAction\":\"SCMP_ACT_NOTIFY\","
				 "\"listenerPath\":\"/run/x\",\"syscalls\":[]}",
				 &p, &e),
			 -ENOENT);
}

/* ---- beside libseccomp ---- */

static const struct sock_filter nothing[SECCOMP_CALLS];

static void export(scmp_filter_ctx filter, struct program *ret)
{
	int fd = memfd_create("program", 0);
	ssize_t n;

	assert_int_equal(seccomp_export_bpf(filter, fd), 0);
	n = pread(fd, ret->insns, sizeof(ret->insns), 0);
	assert_true(n > 0);
	ret->n = (size_t)n / sizeof(*ret->insns);
	close(fd);
}

static const struct {
	const char *name;
	uint32_t value;
} actions[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(EPERM) },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
};

static const char *const operators[] = { "NE", "LT", "LE", "EQ", "GE", "GT" };

/* Rules all over the table, with and without conditions: as a profile, and for libseccomp. */
static void make_rules(unsigned int seed, scmp_filter_ctx filter, struct buf *profile)
{
	buf_printf(profile, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,"
			    "\"syscalls\":[{\"names\":[],\"action\":\"SCMP_ACT_LOG\"}");
	for (int number = 0; number < 450; number++) {
		_cleanup_(freep) char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE,
									       number);
		unsigned int dice = (unsigned int)rand_r(&seed) >> 8;
		unsigned int action = dice % 3;
		unsigned int op = dice / 16 % 6;
		unsigned int value = dice / 1024 % 8;

		if (!name || dice / 64 % 4 == 0)
			continue;
		buf_printf(profile, ",{\"names\":[\"%s\"],\"action\":\"%s\",\"args\":[", name,
			   actions[action].name);
		if (dice / 256 % 4 == 0) {
			(void)seccomp_rule_add(filter, actions[action].value, number, 2,
					       SCMP_A0((enum scmp_compare)(1 + op), value, 0),
					       SCMP_A1(SCMP_CMP_EQ, 0, 0));
			buf_printf(profile,
				   "{\"index\":0,\"value\":%u,\"op\":\"SCMP_CMP_%s\"},"
				   "{\"index\":1,\"value\":0,\"op\":\"SCMP_CMP_EQ\"}",
				   value, operators[op]);
		} else {
			(void)seccomp_rule_add(filter, actions[action].value, number, 0);
		}
		buf_printf(profile, "]}");
	}
	buf_printf(profile, "]}");
}

static void assert_same(const struct program *a, const struct program *b, long number)
{
	for (uint64_t arg = 0; arg < 10; arg++)
		assert_int_equal(call(a, number, arg), call(b, number, arg));
	assert_int_equal(call(a, number, 1ULL << 40), call(b, number, 1ULL << 40));
}

static void test_programs_do_what_libseccomps_do(void **state)
{
	const struct seccomp_data i386 = { .nr = 3, .arch = AUDIT_ARCH_I386 };

	for (unsigned int seed = 1; seed <= 20; seed++) {
		_cleanup_(buf_done) struct buf profile = { 0 };
		scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(38));
		struct err e = { 0 };
		struct program theirs;
		struct program ours;

		make_rules(seed, filter, &profile);
		export(filter, &theirs);
		seccomp_release(filter);
		assert_int_equal(compile(buf_cstr(&profile), &ours, &e), 0);
		for (long number = 0; number < 1100; number++)
			assert_same(&theirs, &ours, number);
		assert_same(&theirs, &ours, 0x3fffffff);
		assert_same(&theirs, &ours, 0x40000000);
		assert_same(&theirs, &ours, 0x40000001);
		assert_same(&theirs, &ours, -1);
		assert_int_equal(run(&theirs, &i386), run(&ours, &i386));
	}
}

static void test_other_programs_are_refused(void **state)
{
	const struct sock_filter masks[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, ALLOW),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_filter endless[] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0) };
	const struct sock_filter far[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 200),
		BPF_STMT(BPF_RET | BPF_K, ALLOW),
	};
	const struct sock_filter answer[] = { BPF_STMT(BPF_RET | BPF_K, ALLOW) };
	struct sock_filter out[64];

	assert_int_equal(seccomp_program_make(masks, ARRAY_SIZE(masks), 0, nothing, out, 64),
			 -EOPNOTSUPP);
	assert_int_equal(seccomp_program_make(endless, 1, 0, nothing, out, 64), -EOPNOTSUPP);
	assert_int_equal(seccomp_program_make(far, ARRAY_SIZE(far), 0, nothing, out, 64),
			 -EOPNOTSUPP);
	assert_int_equal(seccomp_program_make(answer, 1, 0, nothing, out, 3), -E2BIG);
	assert_int_equal(seccomp_program_make(answer, 1, 0, nothing, out, 64), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_filter),
		cmocka_unit_test(test_other_architectures),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_what_is_wrong),
		cmocka_unit_test(test_listener_is_left_alone),
		cmocka_unit_test(test_programs_do_what_libseccomps_do),
		cmocka_unit_test(test_other_programs_are_refused),
	};

	return cmocka_run_group_tests_name("seccomp", tests, NULL, NULL);
}
