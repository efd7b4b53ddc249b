/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The default system call filter: what Docker and containerd allow by default.
 *
 * A system call fails in one of two ways. What we know and refuse gives EPERM. What is in no table
 * here gives ENOSYS, so that a C library falls back to an older call instead of reporting that a
 * new one is forbidden. Only system calls of 64-bit programs exist: the guest's kernel has no
 * others, and the arguments of a 32-bit socketcall are in memory, where a filter can't look.
 */

#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#include "oci/spec_internal.h"

/* Allowed to everybody. */
static const char *const always[] = {
	/* Files and directories. */
	"access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 "
	"faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 "
	"fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr "
	"flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync "
	"ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl "
	"lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek "
	"lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at "
	"newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read "
	"readahead readdir readlink readlinkat readv removexattr removexattrat rename renameat "
	"renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs "
	"statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs tee "
	"truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes "
	"vmsplice write writev arm_fadvise64_64 arm_sync_file_range cachestat fanotify_mark "
	"inotify_add_watch inotify_init inotify_init1 inotify_rm_watch listmount statmount",
	/* Waiting for descriptors, asynchronous I/O. */
	"epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
	"epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_pgetevents "
	"io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 "
	"pselect6 pselect6_time64 select signalfd signalfd4",
	/* Memory. */
	"brk get_thread_area madvise map_shadow_stack membarrier memfd_create memfd_secret "
	"mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall "
	"munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages "
	"set_thread_area set_tls cacheflush",
	/* Processes, threads, credentials, limits. */
	"arch_prctl breakpoint capget capset execve execveat exit exit_group fork futex "
	"futex_requeue futex_time64 futex_wait futex_waitv futex_wake getcpu getegid getegid32 "
	"geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid "
	"getpriority getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list "
	"getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set modify_ldt nice pidfd_open "
	"pidfd_send_signal prctl prlimit64 process_vm_readv process_vm_writev ptrace rseq "
	"sched_getaffinity sched_getattr sched_getparam sched_get_priority_max "
	"sched_get_priority_min sched_getscheduler sched_rr_get_interval "
	"sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
	"sched_setscheduler sched_yield setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
	"setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 "
	"setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid "
	"set_tid_address setuid setuid32 times ugetrlimit vfork wait4 waitid waitpid",
	/* Restricting oneself. */
	"landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
	/* Signals. */
	"alarm kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask "
	"rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
	"rt_tgsigqueueinfo sigaction sigaltstack signal sigpending sigprocmask sigreturn "
	"sigsuspend tgkill tkill",
	/* Time. */
	"adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep "
	"setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
	"timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
	"timerfd_settime timerfd_settime64",
	/* Sockets once they exist (see restricted_socket), and System V and POSIX IPC. */
	"accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom "
	"recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown "
	"socketpair ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 "
	"mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget "
	"semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
	/* The machine. */
	"getrandom sysinfo uname",
};

/* Allowed to containers with one of the capabilities, to others they give EPERM. */
static const struct {
	uint64_t caps;
	const char *names;
} privileged[] = {
	{ CAP_BIT(CAP_DAC_READ_SEARCH), "open_by_handle_at" },
	{ CAP_BIT(CAP_SYS_ADMIN),
	  "fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
	  "move_mount open_tree open_tree_attr pivot_root quotactl quotactl_fd setdomainname "
	  "sethostname setns umount umount2 unshare" },
	{ CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_BPF), "bpf" },
	{ CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_PERFMON), "perf_event_open" },
	{ CAP_BIT(CAP_SYS_ADMIN) | CAP_BIT(CAP_SYSLOG), "syslog" },
	{ CAP_BIT(CAP_SYS_BOOT), "reboot" },
	{ CAP_BIT(CAP_SYS_CHROOT), "chroot" },
	{ CAP_BIT(CAP_SYS_MODULE), "delete_module finit_module init_module" },
	{ CAP_BIT(CAP_SYS_NICE), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node" },
	{ CAP_BIT(CAP_SYS_PACCT), "acct" },
	{ CAP_BIT(CAP_SYS_PTRACE), "kcmp pidfd_getfd process_madvise" },
	{ CAP_BIT(CAP_SYS_RAWIO), "ioperm iopl" },
	{ CAP_BIT(CAP_SYS_TIME), "clock_settime clock_settime64 settimeofday stime" },
	{ CAP_BIT(CAP_SYS_TTY_CONFIG), "vhangup" },
};

/* Known and refused to everybody. */
static const char never[] =
	"add_key bdflush io_uring_enter io_uring_register io_uring_setup kexec_file_load "
	"kexec_load keyctl migrate_pages move_pages nfsservctl request_key swapoff swapon sysfs "
	"_sysctl uselib userfaultfd ustat vm86 vm86old";

/* personality(2): Linux (also with 32-bit addresses or without the 2.6 version), and asking. */
static const uint64_t personalities[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };

struct json_object *oci_seccomp_rule(struct json_object *rules, const char *names, int errno_ret)
{
	struct json_object *rule = json_push_object(rules);
	struct json_object *array = rule ? json_add_array(rule, "names") : NULL;

	if (!array ||
	    json_add_string(rule, "action", errno_ret ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW") < 0 ||
	    (errno_ret && json_add_int(rule, "errnoRet", errno_ret) < 0))
		return NULL;
	while (*names) {
		size_t n = strcspn(names, " ");

		if (json_push(array, json_object_new_string_len(names, (int)n)) < 0)
			return NULL;
		names += n + strspn(names + n, " ");
	}
	return rule;
}

/* Make a rule apply only if argument 0 compares so. */
static int only_if(struct json_object *rule, const char *op, uint64_t value, uint64_t value_two)
{
	struct json_object *args = rule ? json_add_array(rule, "args") : NULL;
	struct json_object *arg = args ? json_push_object(args) : NULL;

	if (!arg || json_add_int(arg, "index", 0) < 0 || json_add_u64(arg, "value", value) < 0 ||
	    json_add_u64(arg, "valueTwo", value_two) < 0 || json_add_string(arg, "op", op) < 0)
		return -ENOMEM;
	return 0;
}

/*
 * New namespaces need CAP_SYS_ADMIN. clone3 has its flags in memory, where a filter can't look:
 * it doesn't exist, and the C library takes clone instead.
 */
static int restricted_clone(struct json_object *rules, uint64_t caps)
{
	static const uint64_t flags[] = { CLONE_NEWNS,	CLONE_NEWCGROUP, CLONE_NEWUTS,
					  CLONE_NEWIPC, CLONE_NEWUSER,	 CLONE_NEWPID,
					  CLONE_NEWNET };
	uint64_t all = 0;

	if (caps & CAP_BIT(CAP_SYS_ADMIN))
		return oci_seccomp_rule(rules, "clone clone3", 0) ? 0 : -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		all |= flags[i];
		if (only_if(oci_seccomp_rule(rules, "clone", EPERM), "SCMP_CMP_MASKED_EQ", flags[i],
			    flags[i]) < 0)
			return -ENOMEM;
	}
	if (only_if(oci_seccomp_rule(rules, "clone", 0), "SCMP_CMP_MASKED_EQ", all, 0) < 0)
		return -ENOMEM;
	return oci_seccomp_rule(rules, "clone3", ENOSYS) ? 0 : -ENOMEM;
}

/*
 * Families from AF_ALG on are refused: the kernel's crypto interface is all attack surface, and
 * AF_VSOCK leads to the host. The comparison is of 64 bits and the kernel looks at 32, so a filter
 * that allowed all but some could be passed by setting a high bit; this one can't.
 */
static int restricted_socket(struct json_object *rules)
{
	if (only_if(oci_seccomp_rule(rules, "socket", 0), "SCMP_CMP_LT", AF_ALG, 0) < 0)
		return -ENOMEM;
	return only_if(oci_seccomp_rule(rules, "socket", EAFNOSUPPORT), "SCMP_CMP_GE", AF_ALG, 0);
}

int oci_seccomp_default(struct json_object *seccomp, uint64_t caps)
{
	struct json_object *rules;

	if (json_add_string(seccomp, "defaultAction", "SCMP_ACT_ERRNO") < 0 ||
	    json_add_int(seccomp, "defaultErrnoRet", ENOSYS) < 0 || oci_seccomp_arches(seccomp) < 0)
		return -ENOMEM;
	rules = json_add_array(seccomp, "syscalls");
	if (!rules)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (!oci_seccomp_rule(rules, always[i], 0))
			return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(privileged); i++)
		if (!oci_seccomp_rule(rules, privileged[i].names,
				      caps & privileged[i].caps ? 0 : EPERM))
			return -ENOMEM;
	if (!oci_seccomp_rule(rules, never, EPERM))
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(personalities); i++)
		if (only_if(oci_seccomp_rule(rules, "personality", 0), "SCMP_CMP_EQ",
			    personalities[i], 0) < 0)
			return -ENOMEM;
	return restricted_clone(rules, caps) < 0 || restricted_socket(rules) < 0 ? -ENOMEM : 0;
}
