/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/bootstrap.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "proto/bootstrap.pb-c.h"

#define OPTIONS_TYPE	"runtimeoptions.v1.Options"
#define CONTROLLER_DIR	"/io.containerd.sandbox.controller.v1.shim/"
#define INPUT_MAX	((size_t)10 << 20)
#define INPUT_CHUNK	4096
#define READ_TIMEOUT_MS 10000

int bootstrap_read(int fd, uint8_t **ret, size_t *ret_len, struct err *e)
{
	_cleanup_(buf_done) struct buf b = { 0 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	do {
		if (buf_reserve(&b, INPUT_CHUNK) < 0)
			return err_oom(e);
		/* containerd has everything ready: it's only a question of the machine's load. */
		if (poll(&p, 1, READ_TIMEOUT_MS) == 0)
			return err_set(e, -ETIMEDOUT, "standard input doesn't end");
		n = read(fd, b.data + b.end, INPUT_CHUNK);
		if (n < 0)
			return err_errno(e, -errno, "cannot read the standard input");
		b.end += (size_t)n;
		if (buf_len(&b) > INPUT_MAX)
			return err_set(e, -EFBIG, "the standard input is too long");
	} while (n > 0);
	*ret_len = buf_len(&b);
	*ret = b.data;
	b = (struct buf){ 0 };
	return 0;
}

int bootstrap_options(const Containerd__Types__Any *any, char **ret, struct err *e)
{
	Containerd__Types__RuntimeOptions *o;
	int r = 0;

	if (!any || !str_eq(any->type_url, OPTIONS_TYPE))
		return 0;
	o = containerd__types__runtime_options__unpack(NULL, any->value.len, any->value.data);
	if (!o)
		return err_set(e, -EBADMSG, "the runtime's options are malformed");
	if (*o->config_path && str_set(ret, o->config_path) < 0)
		r = err_oom(e);
	containerd__types__runtime_options__free_unpacked(o, NULL);
	return r;
}

static int from_params(const Containerd__Runtime__Bootstrap__V1__BootstrapParams *params,
		       char **ret, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < params->n_extensions; i++)
		r = bootstrap_options(params->extensions[i]->value, ret, e);
	return r;
}

int bootstrap_config(const uint8_t *data, size_t len, const char *id, char **ret, struct err *e)
{
	Containerd__Runtime__Bootstrap__V1__BootstrapParams *params;
	Containerd__Types__Any *any;
	int r;

	params = containerd__runtime__bootstrap__v1__bootstrap_params__unpack(NULL, len, data);
	if (params && str_eq(params->instance_id, id)) {
		r = from_params(params, ret, e);
		containerd__runtime__bootstrap__v1__bootstrap_params__free_unpacked(params, NULL);
		return r;
	}
	containerd__runtime__bootstrap__v1__bootstrap_params__free_unpacked(params, NULL);
	any = containerd__types__any__unpack(NULL, len, data);
	if (!any)
		return err_set(e, -EBADMSG, "the standard input isn't what containerd writes");
	r = bootstrap_options(any, ret, e);
	containerd__types__any__free_unpacked(any, NULL);
	return r;
}

bool bootstrap_controller(const char *bundle)
{
	_cleanup_(freep) char *path = str_printf("%s/config.json", bundle);

	return strstr(bundle, CONTROLLER_DIR) || (path && access(path, F_OK) < 0);
}

char *bootstrap_answer(const char *address, bool controller)
{
	if (!controller)
		return strdup(address);
	return str_printf("{\"version\":3,\"address\":\"%s\",\"protocol\":\"ttrpc\"}", address);
}
