/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A filter's rules become its program here, not in the guest, where compiling them is half of the
 * work of a container's start. crun takes the program from an annotation; what stays in the spec
 * are the flags it's loaded with. libseccomp gets the calls with conditions only, because it takes
 * as long for the others as the rest of a start; seccomp_program.c joins the two.
 */

#include <errno.h>
#include <linux/filter.h>
#include <nettle/base64.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "oci/seccomp_internal.h"
#include "oci/spec_internal.h"

#define ANNOTATION_PROGRAM "run.oci.seccomp_bpf_data"

#define ARGS_MAX 6

struct program {
	struct sock_filter insns[BPF_MAXINSNS + 1];
	size_t n;
};

/* A filter while its rules are read. */
struct filter {
	uint32_t other; /* for what no rule is about */
	struct sock_filter fixed[SECCOMP_CALLS];
	bool by_args[SECCOMP_CALLS];
	scmp_filter_ctx libseccomp; /* the calls of by_args */
};

static void filter_free(struct filter *f)
{
	seccomp_release(f->libseccomp);
	free(f);
}

DEFINE_CLEANUP(filter_freep, struct filter *, filter_free)

struct word {
	const char *name;
	uint32_t value;
};

static const struct word actions[] = {
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0) },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
};

static const struct word operators[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE },
	{ "SCMP_CMP_LT", SCMP_CMP_LT },
	{ "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ },
	{ "SCMP_CMP_GE", SCMP_CMP_GE },
	{ "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static int find_word(const struct word *words, size_t n, const char *name, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(words[i].name, name)) {
			*ret = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *string_of(struct json_object *obj, const char *name)
{
	struct json_object *s = json_get(obj, name, json_type_string);

	return s ? json_object_get_string(s) : "";
}

static uint64_t number_of(struct json_object *obj, const char *name)
{
	struct json_object *n = json_get(obj, name, json_type_int);

	return n ? json_object_get_uint64(n) : 0;
}

/* What it does, with the number that its errno or the tracer's message has. */
static int read_action(struct json_object *obj, const char *name, const char *number, uint32_t *ret,
		       struct err *e)
{
	const char *action = string_of(obj, name);
	char quoted[80];
	uint64_t value;

	if (find_word(actions, ARRAY_SIZE(actions), action, ret) < 0)
		return err_set(e, -EINVAL, "%s is no action",
			       log_quote(quoted, sizeof(quoted), action));
	if (*ret != SCMP_ACT_ERRNO(0) && *ret != SCMP_ACT_TRACE(0))
		return 0;
	value = json_get(obj, number, json_type_int) ? number_of(obj, number) : EPERM;
	if (value > UINT16_MAX)
		return err_set(e, -EINVAL, "%s is too large", number);
	*ret |= (uint32_t)value;
	return 0;
}

/* ---- rules ---- */

static int read_args(struct json_object *array, struct scmp_arg_cmp *args, struct err *e)
{
	size_t n = array ? json_object_array_length(array) : 0;

	if (n > ARGS_MAX)
		return err_set(e, -EINVAL, "a rule has more than %d conditions", ARGS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct json_object *arg = json_object_array_get_idx(array, i);
		uint64_t index;
		uint32_t op;

		if (!json_object_is_type(arg, json_type_object))
			return err_set(e, -EINVAL, "a condition is not an object");
		index = number_of(arg, "index");
		if (index >= ARGS_MAX)
			return err_set(e, -EINVAL, "a system call has %d arguments", ARGS_MAX);
		if (find_word(operators, ARRAY_SIZE(operators), string_of(arg, "op"), &op) < 0)
			return err_set(e, -EINVAL, "unknown operator of a condition");
		args[i] = SCMP_CMP64((unsigned int)index, (enum scmp_compare)op,
				     number_of(arg, "value"), number_of(arg, "valueTwo"));
	}
	return (int)n;
}

/* Conditions on one argument are alternatives, as they are for runc. */
static bool is_choice(const struct scmp_arg_cmp *args, size_t n)
{
	unsigned int seen = 0;

	for (size_t i = 0; i < n; i++) {
		if (seen & 1U << args[i].arg)
			return true;
		seen |= 1U << args[i].arg;
	}
	return false;
}

static int add_call(scmp_filter_ctx filter, uint32_t action, int number,
		    const struct scmp_arg_cmp *args, size_t n)
{
	int r = 0;

	if (!is_choice(args, n))
		return seccomp_rule_add_array(filter, action, number, (unsigned int)n, args);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add_array(filter, action, number, 1, &args[i]);
	return r;
}

/* Profiles name calls of other architectures and of later kernels: these have negative numbers. */
static int call_number(struct json_object *names, size_t i)
{
	const char *name = json_object_get_string(json_object_array_get_idx(names, i));

	return name ? seccomp_syscall_resolve_name(name) : __NR_SCMP_ERROR;
}

/* A call that any rule with conditions is about is libseccomp's. */
static void note_conditions(struct filter *f, struct json_object *rule)
{
	struct json_object *names = json_get(rule, "names", json_type_array);
	struct json_object *args = json_get(rule, "args", json_type_array);

	if (!names || !args || json_object_array_length(args) == 0)
		return;
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		int number = call_number(names, i);

		if (number >= 0 && number < SECCOMP_CALLS)
			f->by_args[number] = true;
	}
}

/* The first rule counts, as for libseccomp. */
static void set_answer(struct filter *f, int number, uint32_t action)
{
	struct sock_filter *answer = &f->fixed[number];

	if (!answer->code)
		*answer = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
}

static int add_rule(struct filter *f, struct json_object *rule, struct err *e)
{
	struct json_object *names = json_get(rule, "names", json_type_array);
	struct scmp_arg_cmp args[ARGS_MAX];
	uint32_t action;
	int n_args = read_args(json_get(rule, "args", json_type_array), args, e);
	int r = n_args < 0 ? n_args : read_action(rule, "action", "errnoRet", &action, e);

	if (r < 0)
		return r;
	/* libseccomp refuses what would change nothing. */
	if (action == f->other)
		return 0;
	for (size_t i = 0; names && i < json_object_array_length(names); i++) {
		int number = call_number(names, i);

		if (number < 0)
			continue;
		if (number >= SECCOMP_CALLS || f->by_args[number])
			r = add_call(f->libseccomp, action, number, args, (size_t)n_args);
		else
			set_answer(f, number, action);
		if (r < 0)
			return err_errno(e, r, "the rule for system call %d", number);
	}
	return 0;
}

static int add_rules(struct filter *f, struct json_object *seccomp, struct err *e)
{
	struct json_object *rules = json_get(seccomp, "syscalls", json_type_array);
	size_t n = rules ? json_object_array_length(rules) : 0;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);

		if (!json_object_is_type(rule, json_type_object))
			return err_set(e, -EINVAL, "a rule is not an object");
		note_conditions(f, rule);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_rule(f, json_object_array_get_idx(rules, i), e);
	return r;
}

/* ---- the program ---- */

/*
 * The guest's kernel has one architecture. x32's numbers exist on it as large ones: where the
 * profile knows such programs they get the default answer, elsewhere libseccomp's: the end.
 */
static int set_arch(struct filter *f, struct json_object *seccomp)
{
	struct json_object *arches = json_get(seccomp, "architectures", json_type_array);

	return arches && json_object_array_length(arches) > 1
		       ? seccomp_attr_set(f->libseccomp, SCMP_FLTATR_ACT_BADARCH, f->other)
		       : 0;
}

static int export(scmp_filter_ctx filter, struct program *ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = memfd_create("seccomp", MFD_CLOEXEC);
	ssize_t n;
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "cannot make a file in memory");
	r = seccomp_export_bpf(filter, fd);
	if (r < 0)
		return err_errno(e, r, "cannot make a program of the rules");
	n = pread(fd, ret->insns, sizeof(ret->insns), 0);
	if (n <= 0 || (size_t)n == sizeof(ret->insns))
		return err_set(e, -E2BIG, "there are too many rules");
	ret->n = (size_t)n / sizeof(*ret->insns);
	return 0;
}

static int build(struct filter *f, struct json_object *seccomp, struct program *ret, struct err *e)
{
	struct program by_args;
	int r = read_action(seccomp, "defaultAction", "defaultErrnoRet", &f->other, e);

	if (r < 0)
		return r;
	f->libseccomp = seccomp_init(f->other);
	if (!f->libseccomp || set_arch(f, seccomp) < 0)
		return err_oom(e);
	r = add_rules(f, seccomp, e);
	if (r == 0)
		r = export(f->libseccomp, &by_args, e);
	if (r < 0)
		return r;
	r = seccomp_program_make(by_args.insns, by_args.n, seccomp_arch_native(), f->fixed,
				 ret->insns, ARRAY_SIZE(ret->insns));
	if (r < 0)
		return err_errno(e, r, "cannot make a program of the rules");
	ret->n = (size_t)r;
	return 0;
}

static int compile(struct json_object *seccomp, struct program *ret, struct err *e)
{
	_cleanup_(filter_freep) struct filter *f = calloc(1, sizeof(*f));

	return f ? build(f, seccomp, ret, e) : err_oom(e);
}

static int annotate(struct json_object *spec, const struct program *program)
{
	struct json_object *all = json_get(spec, "annotations", json_type_object);
	size_t len = program->n * sizeof(*program->insns);
	_cleanup_(freep) char *text = calloc(1, BASE64_ENCODE_RAW_LENGTH(len) + 1);

	if (!all)
		all = json_add_object(spec, "annotations");
	if (!text || !all)
		return -ENOMEM;
	base64_encode_raw(text, len, (const uint8_t *)program->insns);
	return json_add_string(all, ANNOTATION_PROGRAM, text);
}

int oci_seccomp_compile(struct json_object *spec, struct err *e)
{
	struct json_object *linux_obj = json_get(spec, "linux", json_type_object);
	struct json_object *seccomp = linux_obj ? json_get(linux_obj, "seccomp", json_type_object)
						: NULL;
	struct program program;
	int r;

	/* Who wants to be asked gets its descriptor from crun. */
	if (!seccomp || json_get(seccomp, "listenerPath", json_type_string))
		return 0;
	r = compile(seccomp, &program, e);
	if (r < 0) {
		err_wrap(e, "system call filter");
		return r;
	}
	if (annotate(spec, &program) < 0)
		return err_oom(e);
	json_object_object_del(seccomp, "syscalls");
	json_object_object_del(seccomp, "architectures");
	return 0;
}
