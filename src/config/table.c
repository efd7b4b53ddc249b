/* SPDX-License-Identifier: Apache-2.0 */
#include "config/table.h"

#include "base/log.h"
#include "base/str.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)
#define SEC ((uint64_t)1000)
#define DAY (86400 * SEC)

static const char *const accel_words[] = {
	[CONFIG_ACCEL_AUTO] = "auto",
	[CONFIG_ACCEL_KVM] = "kvm",
	[CONFIG_ACCEL_TCG] = "tcg",
	NULL,
};
static const char *const net_words[] = {
	[CONFIG_NET_USER] = "user",
	[CONFIG_NET_NONE] = "none",
	NULL,
};
static const char *const pull_words[] = {
	[CONFIG_PULL_MISSING] = "missing",
	[CONFIG_PULL_ALWAYS] = "always",
	[CONFIG_PULL_NEVER] = "never",
	NULL,
};
static const char *const rootfs_words[] = {
	[CONFIG_ROOTFS_BLOCK] = "block",
	[CONFIG_ROOTFS_VIRTIOFS] = "virtiofs",
	NULL,
};
static const char *const emptydir_words[] = {
	[CONFIG_EMPTYDIR_DISK] = "disk",
	[CONFIG_EMPTYDIR_SHARED] = "shared",
	NULL,
};
static const char *const cache_words[] = {
	[CONFIG_CACHE_SAFE] = "safe",
	[CONFIG_CACHE_UNSAFE] = "unsafe",
	NULL,
};
static const char *const level_words[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
	NULL,
};
static const char *const switch_words[] = {
	[CONFIG_NO] = "no",
	[CONFIG_YES] = "yes",
	NULL,
};
static const char *const driver_words[] = { "qemu", NULL };
static const char *const machine_words[] = { "microvm", "q35", NULL };

#define AT(member) offsetof(struct config, member)

/* clang-format off */
const struct config_key config_keys[] = {
	{ "paths", "image", CONFIG_PATH, AT(image), 0, 0, NULL, CONFIG_IMAGE_DIR,
	  "Directory of the guest image: kernel, root file system and manifest.json." },
	{ "paths", "state", CONFIG_PATH, AT(state), 0, 0, NULL, "/run/podvm",
	  "Directory of the running sandboxes. It should be on a file system that a reboot empties." },
	{ "paths", "cache", CONFIG_PATH, AT(cache), 0, 0, NULL, "/var/lib/podvm",
	  "Directory of the container images and of the writable layers of running containers." },

	{ "vmm", "driver", CONFIG_STRING, AT(driver), 0, 0, driver_words, "qemu",
	  "The virtual machine monitor." },
	{ "vmm", "machine", CONFIG_STRING, AT(machine), 0, 0, machine_words, "microvm",
	  "Its machine type: microvm starts fastest, q35 has PCI and ACPI." },
	{ "vmm", "accel", CONFIG_ENUM, AT(accel), 0, 0, accel_words, "auto",
	  "What runs the guest's instructions: kvm, or tcg for emulation, which works everywhere and\n"
	  "is slow. auto takes KVM where a guest really runs on it (see podvm check)." },
	{ "vmm", "uid_base", CONFIG_UINT, AT(uid_base), 0, 4000000000, NULL, "1900000000",
	  "First of 65536 users that nobody else has. Every monitor runs as one of its own. 0: as root." },
	{ "vmm", "binary", CONFIG_PROGRAM, AT(binary), 0, 0, NULL, "",
	  "Program of the monitor. Empty: the driver finds it." },

	{ "vm", "vcpus", CONFIG_UINT, AT(vcpus), 1, 256, NULL, "1",
	  "Virtual CPUs of a sandbox that has no CPU limit." },
	{ "vm", "memory", CONFIG_SIZE, AT(memory), 64 * MIB, TIB, NULL, "256M",
	  "Memory of a sandbox that has no memory limit." },
	{ "vm", "max_vcpus", CONFIG_UINT, AT(max_vcpus), 0, 256, NULL, "0",
	  "How many virtual CPUs a pod may grow to. 0: four times what it starts with, and no more than\n"
	  "the host has." },
	{ "vm", "max_memory", CONFIG_SIZE, AT(max_memory), 0, TIB, NULL, "0",
	  "How much memory a pod may grow to on machine q35, at most eight times what it starts with.\n"
	  "0: as much as the host has." },
	{ "vm", "guest_overhead", CONFIG_SIZE, AT(guest_overhead), 0, 4 * GIB, NULL, "64M",
	  "Memory that a sandbox gets on top of its memory limit, for the guest's kernel and agent." },
	{ "vm", "scratch_size", CONFIG_SIZE, AT(scratch_size), 16 * MIB, 16 * TIB, NULL, "10G",
	  "Size of a container's writable layer. It takes up only what is written." },
	{ "vm", "debug", CONFIG_ENUM, AT(debug), 0, 0, switch_words, "no",
	  "Whether the debug variant of the guest image is used, whose kernel prints all it has to say." },

	{ "template", "enabled", CONFIG_ENUM, AT(template_enabled), 0, 0, switch_words, "yes",
	  "Whether machines start as copies of one that has booted. It is made in the background when\n"
	  "there is none of the kind, see podvm-template(1). Copies share memory, see security.md." },
	{ "template", "size", CONFIG_SIZE, AT(template_size), 0, TIB, NULL, "4G",
	  "What all templates may take on the disk. Those that were used least recently have to go." },

	{ "pool", "size", CONFIG_UINT, AT(pool_pod), 0, 1000, NULL, "0",
	  "How many machines of the default size wait for pods that have a network, when podvm-pool(1)\n"
	  "runs." },
	{ "pool", "size_none", CONFIG_UINT, AT(pool_none), 0, 1000, NULL, "0",
	  "How many wait for containers of containerd that have no network (ctr run)." },
	{ "pool", "size_user", CONFIG_UINT, AT(pool_user), 0, 1000, NULL, "0",
	  "How many wait for podvm run, with its user-mode network." },
	{ "pool", "memory", CONFIG_SIZE, AT(pool_memory), 0, TIB, NULL, "1G",
	  "What all that wait may take of the host's memory, without what they share. 0: no limit." },

	{ "storage", "rootfs", CONFIG_ENUM, AT(rootfs), 0, 0, rootfs_words, "block",
	  "How containers of containerd get their root file system: as block devices where that's\n"
	  "possible, or always through virtiofs, directly from containerd's snapshot." },
	{ "storage", "scratch_cache", CONFIG_ENUM, AT(scratch_cache), 0, 0, cache_words, "safe",
	  "safe: what a container has synced in its writable layer is on the host's disk. unsafe: fsync\n"
	  "does nothing there, for pods whose files nobody wants after a crash of the host." },
	{ "storage", "emptydir", CONFIG_ENUM, AT(emptydir), 0, 0, emptydir_words, "disk",
	  "What becomes of an emptyDir that isn't in memory: a disk, whose file lies in the kubelet's\n"
	  "directory of the volume, or that directory itself, shared." },
	{ "storage", "emptydir_size", CONFIG_SIZE, AT(emptydir_size), 16 * MIB, 16 * TIB, NULL, "64G",
	  "Size of such a disk. It takes up only what is written, which the kubelet counts." },
	{ "storage", "direct_volumes", CONFIG_PATH, AT(direct_volumes), 0, 0, NULL,
	  CONFIG_DIRECT_VOLUMES,
	  "Directory in which 'podvm volume add' (or a CSI driver that knows Kata Containers) says which\n"
	  "volumes are block devices for the pod alone, that the host hasn't mounted." },
	{ "storage", "host_sockets", CONFIG_PATTERNS, AT(host_sockets), 0, 0, NULL, "",
	  "Unix sockets of the host that pods may connect to when they mount them or their directory:\n"
	  "patterns of absolute paths without symbolic links, separated by blanks. * doesn't match a\n"
	  "slash. To such a server every pod is root." },
	{ "storage", "share_root", CONFIG_ENUM, AT(share_root), 0, 0, switch_words, "no",
	  "Whether the host's / can be a volume (a hostPath, or -v), with all that is mounted on the\n"
	  "host. A guest that was taken over has as much of it as the pod." },

	{ "start", "boot_timeout", CONFIG_DURATION, AT(boot_timeout), SEC, 3600 * SEC, NULL, "60s",
	  "How long a guest may take to boot. Emulation on a busy machine is slow." },
	{ "start", "agent_timeout", CONFIG_DURATION, AT(agent_timeout), SEC, 3600 * SEC, NULL, "60s",
	  "A guest whose agent has not answered anything for this time is given up. What takes longer in\n"
	  "a guest that answers goes on." },

	{ "net", "default", CONFIG_ENUM, AT(net), 0, 0, net_words, "user",
	  "Network of a sandbox when --net isn't given: user (through passt) or none." },
	{ "net", "subnet", CONFIG_SUBNET4, AT(subnet), 0, 0, NULL, "10.0.2.0/24",
	  "IPv4 network that the user mode shows to guests. They can't reach hosts of the real world\n"
	  "that have addresses of it." },
	{ "net", "subnet6", CONFIG_SUBNET6, AT(subnet6), 0, 0, NULL, "fd2e:70d6:7a3c:1::/64",
	  "IPv6 network that the user mode shows to guests." },
	{ "net", "mtu", CONFIG_UINT, AT(mtu), 1280, 65520, NULL, "65520",
	  "MTU of the guest's interface in user mode. Large is fast: passt makes segments of its own." },

	{ "annotations", "allowed", CONFIG_ANNOTATIONS, AT(annotations), 0, 0, NULL, "",
	  "Annotations by which a pod may choose its own value of a key above, separated by blanks.\n"
	  "podvm.conf(5) lists them. A pod that has another one of podvm.io/ isn't created." },

	{ "log", "level", CONFIG_ENUM, AT(log_level), 0, 0, level_words, "warn",
	  "The least severe messages that are logged." },

	{ "image", "pull", CONFIG_ENUM, AT(pull), 0, 0, pull_words, "missing",
	  "When an image is fetched from its registry: missing (it isn't in the cache), always, never." },
	{ "image", "verity", CONFIG_ENUM, AT(verity), 0, 0, switch_words, "no",
	  "Whether guests check what they read of images with dm-verity: what was changed in the cache is\n"
	  "an I/O error in the container, never wrong data. Needs veritysetup." },
	{ "image", "cache_size", CONFIG_SIZE, AT(cache_size), 0, 1024 * TIB, NULL, "0",
	  "How large the images of podvm run may become, and as much again the layers of containerd. When\n"
	  "one is added those go that weren't used for the longest time. 0: no limit." },
	{ "image", "cache_age", CONFIG_DURATION, AT(cache_age), 0, 3650 * DAY, NULL, "0s",
	  "How long images and layers are kept that nothing uses. 0s: no limit." },
};
/* clang-format on */

const size_t config_n_keys = ARRAY_SIZE(config_keys);

const struct config_key *config_key_find(const char *section, const char *name)
{
	for (size_t i = 0; i < config_n_keys; i++)
		if (str_eq(config_keys[i].section, section) && str_eq(config_keys[i].name, name))
			return &config_keys[i];
	return NULL;
}
