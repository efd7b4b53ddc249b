/* SPDX-License-Identifier: Apache-2.0 */
/* podvm volume: block devices for pods, said by CSI drivers (storage/direct_volume.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/target.h"
#include "oci/json.h"
#include "proto/control.pb-c.h"
#include "storage/direct_volume.h"

/* What the options of a subcommand say. */
struct volume_args {
	const char *path;
	const char *info;
	uint64_t size;
};

static int add(struct cli *cli, const struct volume_args *a, struct err *e)
{
	if (!a->info)
		return err_set(e, -EINVAL, "--mount-info is missing");
	return direct_volume_add(cli->config.direct_volumes, a->path, a->info, e);
}

static int forget(struct cli *cli, const struct volume_args *a, struct err *e)
{
	return direct_volume_remove(cli->config.direct_volumes, a->path, e);
}

/* One call to the pod that has it. Some that had it may have left their name. */
static int call(struct cli *cli, const struct volume_args *a, const char *method,
		const ProtobufCMessage *req, ProtobufCMessage **ret, struct err *e)
{
	_cleanup_(strv_done) struct strv users = { 0 };
	int r = direct_volume_users(cli->config.direct_volumes, a->path, &users, e);

	for (size_t i = 0; r == 0 && i < users.n; i++) {
		struct target t;
		struct err err = { 0 };

		if (target_open(cli, users.v[i], &t, &err) < 0)
			continue;
		r = target_control(&t, method, req, ret, &err);
		target_done(&t);
		if (r == 0)
			return 0;
		if (r != -ENOENT && r != -ENOTCONN)
			*e = err;
		else
			r = 0;
	}
	return r < 0 ? r : err_set(e, -ENOENT, "no pod that runs has the volume %s", a->path);
}

static int add_usage(struct json_object *array, const char *unit, uint64_t available,
		     uint64_t total, uint64_t used)
{
	struct json_object *o = json_push_object(array);

	if (!o || json_add_u64(o, "available", available) < 0 ||
	    json_add_u64(o, "total", total) < 0 || json_add_u64(o, "used", used) < 0)
		return -ENOMEM;
	return json_add_string(o, "unit", unit);
}

static int stats(struct cli *cli, const struct volume_args *a, struct err *e)
{
	Podvm__Control__V1__StatVolumeRequest req = PODVM__CONTROL__V1__STAT_VOLUME_REQUEST__INIT;
	_cleanup_(json_putp) struct json_object *obj = json_object_new_object();
	struct json_object *usage = obj ? json_add_array(obj, "usage") : NULL;
	Podvm__Control__V1__StatVolumeResponse *st;
	ProtobufCMessage *resp;
	int r;

	req.source = (char *)a->path;
	r = call(cli, a, "StatVolume", &req.base, &resp, e);
	if (r < 0)
		return r;
	st = (void *)resp;
	r = usage ? add_usage(usage, "bytes", st->bytes_available, st->bytes, st->bytes_used)
		  : -ENOMEM;
	if (r == 0)
		r = add_usage(usage, "inodes", st->inodes_free, st->inodes, st->inodes_used);
	protobuf_c_message_free_unpacked(resp, NULL);
	return r < 0 ? err_oom(e) : cli_print_json(obj);
}

/* QEMU makes a file as large as it's told; a device has to be so already. */
static int check_size(struct cli *cli, const struct volume_args *a, struct err *e)
{
	_cleanup_(direct_volume_done) struct direct_volume v = { 0 };
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;
	uint64_t now;
	int r = direct_volume_read(cli->config.direct_volumes, a->path, &v, e);

	if (r < 0)
		return r == -ENOENT ? err_set(e, r, "%s is no volume that was added", a->path) : r;
	fd = open(v.device, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", v.device);
	now = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &now) < 0)
		return err_errno(e, -errno, "cannot find out the size of %s", v.device);
	if (now >= a->size)
		return 0;
	err_set(e, -EINVAL, "%s has only %llu bytes", v.device, (unsigned long long)now);
	err_hint(e, "The device has to grow first.");
	return -EINVAL;
}

static int resize(struct cli *cli, const struct volume_args *a, struct err *e)
{
	Podvm__Control__V1__GrowVolumeRequest req = PODVM__CONTROL__V1__GROW_VOLUME_REQUEST__INIT;
	int r;

	if (a->size == 0)
		return err_set(e, -EINVAL, "--size is missing");
	r = check_size(cli, a, e);
	if (r < 0)
		return r;
	req.source = (char *)a->path;
	req.size = a->size;
	return call(cli, a, "GrowVolume", &req.base, NULL, e);
}

static int run(struct cli *cli, const char *usage,
	       int (*command)(struct cli *cli, const struct volume_args *a, struct err *e),
	       int argc, char **argv)
{
	struct err e = { 0 };
	struct volume_args a = { 0 };
	const struct cli_option options[] = {
		{ "volume-path", 0, CLI_STRING, &a.path, "PATH",
		  "Where the kubelet thinks that the volume is" },
		{ "mount-info", 0, CLI_STRING, &a.info, "JSON",
		  "What is to be mounted: volume-type, device, fstype, metadata, options" },
		{ "size", 0, CLI_SIZE, &a.size, "BYTES", "How large the device is now" },
	};
	int rest = 0;
	int r = cli_parse(usage, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && (str_empty(a.path) || *a.path != '/' || rest < argc)) {
		r = err_set(&e, -EINVAL, "--volume-path has to be an absolute path");
		err_hint(&e, "usage: %s", usage);
	}
	if (r == 0)
		r = command(cli, &a, &e);
	return r < 0 ? cli_fail(&e) : 0;
}

static int volume_add(struct cli *cli, int argc, char **argv)
{
	return run(cli, "podvm volume add --volume-path PATH --mount-info JSON", add, argc, argv);
}

static int volume_remove(struct cli *cli, int argc, char **argv)
{
	return run(cli, "podvm volume remove --volume-path PATH", forget, argc, argv);
}

static int volume_stats(struct cli *cli, int argc, char **argv)
{
	return run(cli, "podvm volume stats --volume-path PATH", stats, argc, argv);
}

static int volume_resize(struct cli *cli, int argc, char **argv)
{
	return run(cli, "podvm volume resize --volume-path PATH --size BYTES", resize, argc, argv);
}

static const struct cli_verb commands[] = {
	{ "add", volume_add, "Say what a volume of the kubelet really is" },
	{ "remove", volume_remove, "Forget it" },
	{ "stats", volume_stats, "Show how much of it is in use" },
	{ "resize", volume_resize, "Make use of a device that has grown" },
};

int cli_volume(struct cli *cli, int argc, char **argv)
{
	return cli_group(cli, "volume", commands, ARRAY_SIZE(commands), argc, argv);
}
