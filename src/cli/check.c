/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm check: what this machine can do. That /dev/kvm opens proves nothing, so every monitor runs
 * a guest.
 */
#include "cli/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "cli/target.h"
#include "oci/json.h"
#include "sandbox/guest_image.h"
#include "vmm/vmm.h"

#define USAGE	       "podvm check [OPTIONS]"
#define KVM_TIMEOUT_MS 10000

void check_add(struct check *c, enum check_status status, const char *name, const char *hint,
	       const char *fmt, ...)
{
	struct check_item item = { .status = status };
	struct check_item *v = reallocarray(c->v, c->n + 1, sizeof(*v));
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (v)
		c->v = v;
	if (!v || str_set(&item.name, name) < 0 || str_set(&item.text, text) < 0 ||
	    str_set(&item.hint, hint ? hint : "") < 0) {
		free(item.name);
		free(item.text);
		c->oom = true;
		return;
	}
	v[c->n++] = item;
}

void check_done(struct check *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].name);
		free(c->v[i].text);
		free(c->v[i].hint);
	}
	free(c->v);
	*c = (struct check){ 0 };
}

static void add_error(struct check *c, enum check_status status, const char *name,
		      const struct err *e)
{
	check_add(c, status, name, e->hint, "%s", e->msg);
}

/* What one driver can do. The others than the configured one are only worth knowing of. */
static void check_driver(struct check *c, const struct config *config,
			 const struct vmm_driver *driver, const struct guest_image *image)
{
	bool configured = str_eq(vmm_driver_name(driver), config->driver);
	const char *name = vmm_driver_name(driver);
	struct vmm_probe_result res = { 0 };
	struct err e = { 0 };

	cli_progress("running a guest to see what works", 0, 0);
	if (vmm_probe(driver, image->kernel_path, image->rootfs_path, image->cmdline,
		      KVM_TIMEOUT_MS, &res, &e) < 0) {
		add_error(c, configured ? CHECK_FAILED : CHECK_LIMITED, name, &e);
		return;
	}
	if (*res.binary)
		check_add(c, CHECK_OK, name, NULL, "%s: %s", res.binary, res.version);
	if (res.usable == VMM_USABLE_KVM) {
		check_add(c, CHECK_OK, "kvm", NULL, "%s", res.kvm);
		check_add(c, CHECK_OK, "emulation", NULL, "%s", res.emulation);
		return;
	}
	check_add(c, CHECK_LIMITED, "kvm", res.hint, "%s", res.kvm);
	if (res.usable == VMM_USABLE_EMULATION)
		check_add(c, CHECK_LIMITED, "emulation", NULL, "%s", res.emulation);
	else
		check_add(c, configured ? CHECK_FAILED : CHECK_LIMITED, "emulation", NULL, "%s",
			  res.emulation);
}

void check_guests(struct check *c, const struct config *config, const char *image_dir)
{
	_cleanup_(guest_image_done) struct guest_image image = { 0 };
	struct err e = { 0 };

	if (guest_image_open(image_dir, /* debug= */ false, &image, &e) < 0 ||
	    guest_image_verify(&image, &e) < 0) {
		add_error(c, CHECK_FAILED, "guest-image", &e);
		return;
	}
	check_add(c, CHECK_OK, "guest-image", NULL, "%s: version %s, Linux %s, verified", image_dir,
		  image.version, image.kernel_version);
	for (size_t i = 0; vmm_driver_at(i); i++)
		check_driver(c, config, vmm_driver_at(i), &image);
	cli_progress(NULL, 0, 0);
}

/* ---- showing it ---- */

static bool usable(const struct check *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].status == CHECK_FAILED)
			return false;
	return true;
}

static void print_items(const struct check *c)
{
	static const char *const marks[] = {
		[CHECK_OK] = "OK",
		[CHECK_LIMITED] = "--",
		[CHECK_FAILED] = "!!",
	};

	for (size_t i = 0; i < c->n; i++) {
		const struct check_item *item = &c->v[i];

		printf("%s  %-19s", marks[item->status], item->name);
		cli_printable(item->text, (int)strlen(item->text));
		putchar('\n');
		for (const char *h = item->hint; *h;) {
			int len = (int)strcspn(h, "\n");

			printf("    %-19s", "");
			cli_printable(h, len);
			putchar('\n');
			h += len + (h[len] == '\n');
		}
	}
}

static const char *verdict(const struct check *c, const struct config *config)
{
	bool kvm = false;

	if (!usable(c))
		return "No container can run here until what is marked '!!' has been put right.";
	for (size_t i = 0; i < c->n; i++)
		kvm |= str_eq(c->v[i].name, "kvm") && c->v[i].status == CHECK_OK;
	if (kvm && config->accel != CONFIG_ACCEL_TCG)
		return "Containers run here, on KVM.";
	return "Containers run here, under emulation: everything works, but slowly.";
}

static void print_text(const struct check *c, const struct config *config, struct buf *dump)
{
	print_items(c);
	printf("\nConfiguration in force (%s):\n",
	       getenv(CONFIG_ENV) ? getenv(CONFIG_ENV) : CONFIG_FILE);
	for (const char *line = buf_cstr(dump); line && *line;) {
		int len = (int)strcspn(line, "\n");

		if (len > 0) {
			printf("    ");
			cli_printable(line, len);
			putchar('\n');
		}
		line += len + (line[len] == '\n');
	}
	printf("\n%s\n", verdict(c, config));
}

/* The dump's lines, "[section]" and "key = value", as members "section.key". */
static int add_config(struct json_object *obj, struct buf *dump)
{
	struct json_object *config = json_add_object(obj, "config");
	_cleanup_(freep) char *text = buf_cstr(dump) ? strdup(buf_cstr(dump)) : NULL;
	const char *section = "";
	char *save = NULL;
	int r = config && text ? 0 : -ENOMEM;

	for (char *l = r == 0 ? strtok_r(text, "\n", &save) : NULL; l && r == 0;
	     l = strtok_r(NULL, "\n", &save)) {
		_cleanup_(freep) char *name = NULL;
		char *value = strstr(l, " = ");

		if (*l == '[') {
			l[strcspn(l, "]")] = '\0';
			section = l + 1;
		} else if (value) {
			*value = '\0';
			name = str_printf("%s.%s", section, l);
			r = name ? json_add_string(config, name, value + 3) : -ENOMEM;
		}
	}
	return r;
}

static int make_json(const struct check *c, struct buf *dump, struct json_object *obj)
{
	static const char *const names[] = {
		[CHECK_OK] = "ok",
		[CHECK_LIMITED] = "limited",
		[CHECK_FAILED] = "failed",
	};
	struct json_object *items;

	if (json_add_bool(obj, "usable", usable(c)) < 0)
		return -ENOMEM;
	items = json_add_array(obj, "checks");
	for (size_t i = 0; items && i < c->n; i++) {
		struct json_object *o = json_push_object(items);

		if (!o || json_add_string(o, "name", c->v[i].name) < 0 ||
		    json_add_string(o, "status", names[c->v[i].status]) < 0 ||
		    json_add_string(o, "text", c->v[i].text) < 0 ||
		    json_add_string(o, "hint", c->v[i].hint) < 0)
			return -ENOMEM;
	}
	return items ? add_config(obj, dump) : -ENOMEM;
}

static int show(const struct check *c, const struct config *config, bool json)
{
	_cleanup_(json_putp) struct json_object *obj = json_object_new_object();
	_cleanup_(buf_done) struct buf dump = { 0 };
	struct err e = { 0 };
	int r = c->oom || !obj ? -ENOMEM : config_dump(config, &dump);

	if (r == 0 && json)
		r = make_json(c, &dump, obj);
	if (r < 0) {
		err_errno(&e, r, "cannot show the result");
		return cli_fail(&e);
	}
	if (json && cli_print_json(obj) != 0)
		return CLI_FAILED;
	if (!json)
		print_text(c, config, &dump);
	return usable(c) ? 0 : 1;
}

int cli_check(struct cli *cli, int argc, char **argv)
{
	_cleanup_(check_done) struct check c = { 0 };
	const char *image = cli->config.image;
	bool json = false;
	const struct cli_option options[] = {
		{ "image", 0, CLI_STRING, &image, "DIR",
		  "Guest image; default: the configured one" },
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && rest < argc)
		r = err_set(&e, -EINVAL, "check takes no arguments");
	if (r < 0)
		return cli_fail(&e);
	check_host(&c, &cli->config);
	check_programs(&c);
	check_containerd(&c);
	check_guests(&c, &cli->config, image);
	return show(&c, &cli->config, json);
}
