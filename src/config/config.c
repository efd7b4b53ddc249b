/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"
#include "config/table.h"

/* The names of the drop-ins, in order. */
struct dropins {
	struct dirent **entries;
	int n;
};

static void dropins_done(struct dropins *d)
{
	for (int i = 0; i < d->n; i++)
		free(d->entries[i]);
	free(d->entries);
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < config_n_keys; i++)
		if (config_value_is_string(&config_keys[i]))
			free(*(char **)(void *)((char *)c + config_keys[i].offset));
	*c = CONFIG_INIT;
}

int config_defaults(struct config *c)
{
	int r = 0;

	*c = CONFIG_INIT;
	for (size_t i = 0; i < config_n_keys && r == 0; i++)
		r = config_value_set(c, &config_keys[i], config_keys[i].def, NULL);
	if (r < 0)
		config_done(c);
	return r;
}

/* What root believes must not be written by anybody else. */
static int check_owner(int fd, const char *path, size_t *ret_size, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is not a regular file", path);
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		err_set(e, -EPERM, "%s can be changed by other users: refusing to read it", path);
		err_hint(e, "Run: chown root:root %s && chmod 644 %s", path, path);
		return -EPERM;
	}
	if ((uint64_t)st.st_size > CONFIG_MAX_FILE)
		return err_set(e, -EFBIG, "%s: the file is too large", path);
	*ret_size = (size_t)st.st_size;
	return 0;
}

/* Return: 0, -ENOENT without a message, or another error */
static int load_one(struct config *c, const char *path, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	_cleanup_(freep) char *text = NULL;
	size_t size = 0;
	ssize_t n;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, -errno, "cannot read %s", path);
	r = check_owner(fd, path, &size, e);
	if (r < 0)
		return r;
	text = malloc(size + 1);
	if (!text)
		return err_oom(e);
	n = fd_read_full(fd, text, size);
	if (n < 0)
		return err_errno(e, (int)n, "cannot read %s", path);
	return config_parse(c, path, text, (size_t)n, e);
}

static int is_dropin(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return d->d_name[0] != '.' && dot && str_eq(dot, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_dropins(struct config *c, const char *dir, struct err *e)
{
	_cleanup_(dropins_done) struct dropins d = { NULL, 0 };
	int r = 0;

	d.n = scandir(dir, &d.entries, is_dropin, by_name);
	if (d.n < 0) {
		d.n = 0;
		return errno == ENOENT ? 0 : err_errno(e, -errno, "cannot read %s", dir);
	}
	if (d.n > CONFIG_MAX_DROPINS)
		return err_set(e, -E2BIG, "%s: more than %d files", dir, CONFIG_MAX_DROPINS);
	for (int i = 0; i < d.n && r == 0; i++) {
		_cleanup_(freep) char *path = str_printf("%s/%s", dir, d.entries[i]->d_name);

		if (!path)
			return err_oom(e);
		r = load_one(c, path, e);
		if (r == -ENOENT)
			r = 0; /* removed since, or a dangling link: the usual way to mask one */
	}
	return r;
}

/* As config_load_file(), and the main file has to be there if @required. */
static int load_all(struct config *c, const char *path, bool required, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s.d", path);
	int r;

	if (!dir || config_defaults(c) < 0)
		return err_oom(e);
	r = load_one(c, path, e);
	if (r == -ENOENT)
		r = required ? err_errno(e, r, "cannot read %s (from " CONFIG_ENV ")", path) : 0;
	if (r == 0)
		r = load_dropins(c, dir, e);
	if (r < 0)
		config_done(c);
	return r;
}

int config_load_file(struct config *c, const char *path, struct err *e)
{
	return load_all(c, path, /* required= */ false, e);
}

int config_load(struct config *c, struct err *e)
{
	const char *path = secure_getenv(CONFIG_ENV);

	if (str_empty(path))
		return load_all(c, CONFIG_FILE, /* required= */ false, e);
	return load_all(c, path, /* required= */ true, e);
}
