/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/clone.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/sandbox-internal.h"

static bool can_copy(const struct sandbox *sb, const struct vmm_config *config)
{
	return sb->config->templates && !sb->no_template && config->n_nics <= 1 &&
	       (vmm_driver_caps(sb->config->driver) & VMM_CAP_TEMPLATE);
}

static enum template_nic nic_of(const struct vmm_config *config)
{
	if (config->n_nics == 0)
		return TEMPLATE_NIC_NONE;
	return config->nics[0].tap ? TEMPLATE_NIC_TAP : TEMPLATE_NIC_USER;
}

static void use(struct sandbox *sb, struct vmm_config *config)
{
	config->template = VMM_TEMPLATE_USE;
	config->memory_fd = sb->template.memory_fd;
	config->state_fd = sb->template.state_fd;
	if (config->n_nics > 0)
		snprintf(config->nics[0].mac, sizeof(config->nics[0].mac), TEMPLATE_MAC);
	sb->cloned = true;
}

/* The same sandbox, with what it leaves open decided. */
static struct sandbox_config decided(const struct sandbox *sb, const struct vmm_config *config)
{
	struct sandbox_config c = *sb->config;

	c.accel = config->accel;
	return c;
}

/* Which template it's a copy of, or would be. Return: 0 or a negative errno */
static int find_key(struct sandbox *sb, struct vmm_config *config, struct sandbox_config *c,
		    struct buf *text)
{
	struct err e = { 0 };
	int r;

	if (!can_copy(sb, config))
		return -EOPNOTSUPP;
	if (config->accel == VMM_ACCEL_AUTO)
		config->accel = vmm_accel_auto(sb->config->driver, config, NULL);
	*c = decided(sb, config);
	sb->accel = c->accel;
	sb->template_nic = nic_of(config);
	r = template_describe(c, sb->template_nic, text, sb->template.key, &e);
	if (r < 0)
		log_info("there are no templates for this machine", "sandbox=%s error=\"%s\"",
			 c->rundir->id, e.msg);
	return r;
}

void clone_prepare(struct sandbox *sb, struct vmm_config *config)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	struct sandbox_config c;
	int r;

	sb->template_wanted = false;
	if (find_key(sb, config, &c, &text) < 0)
		return;
	r = template_open(&c, sb->template.key, &text, &sb->template);
	if (r == 0) {
		use(sb, config);
		return;
	}
	sb->template_wanted = true;
	if (r == -ESTALE)
		log_warn("the template isn't used before it's been checked again",
			 "sandbox=%s template=%s", c.rundir->id, sb->template.key);
	else if (r != -ENOENT)
		log_warn("the template can't be used", "sandbox=%s template=%s error=%d",
			 c.rundir->id, sb->template.key, r);
}

static void on_taken(void *data, struct pool_machine *m)
{
	struct sandbox *sb = data;

	if (m) {
		sb->pooled = *m;
		*m = POOL_MACHINE_INIT;
		sb->cloned = sb->from_pool = true;
		pool_adopt_processes(&sb->pooled);
	}
	sb->taken(sb);
}

int clone_take(struct sandbox *sb, enum template_nic nic, void (*taken)(struct sandbox *sb))
{
	_cleanup_(buf_done) struct buf text = { 0 };
	struct sandbox_config c;
	struct vmm_config config;
	int r;

	sb->cloned = sb->from_pool = false;
	pool_take_free(TAKE_PTR(sb->take));
	if (sb->no_pool || pool_is_empty(sb->config->state_dir))
		return 0;
	template_machine(sb->config, &config);
	config.n_nics = nic == TEMPLATE_NIC_NONE ? 0 : 1;
	config.nics[0].tap = nic == TEMPLATE_NIC_TAP;
	if (find_key(sb, &config, &c, &text) < 0)
		return 0;
	sb->taken = taken;
	r = pool_take(sb->loop, c.state_dir, sb->template.key, on_taken, sb, &sb->take);
	if (r == 0)
		return STAGE_PENDING;
	log_warn("the pool can't be used", "sandbox=%s error=%d", c.rundir->id, r);
	return 0;
}

void clone_untake(struct sandbox *sb)
{
	pool_take_free(TAKE_PTR(sb->take));
	pool_machine_done(&sb->pooled);
}

void clone_given(struct sandbox *sb)
{
	template_close_files(&sb->template);
}

bool clone_retry(struct sandbox *sb, const struct err *e)
{
	char text[512];

	if (!sb->cloned)
		return false;
	if (sb->from_pool) {
		log_warn("a machine of the pool doesn't work, another one is started",
			 "sandbox=%s template=%s error=%s", sb->config->rundir->id,
			 sb->template.key, log_quote(text, sizeof(text), e->msg));
		sb->no_pool = true;
		return true;
	}
	log_warn("the template doesn't work; it's removed, and the machine boots",
		 "sandbox=%s template=%s error=%s", sb->config->rundir->id, sb->template.key,
		 log_quote(text, sizeof(text), e->msg));
	template_remove_bad(sb->config, sb->template.key);
	sb->no_template = true;
	sb->cloned = false;
	return true;
}

void clone_booted(struct sandbox *sb)
{
	struct sandbox_config c = *sb->config;
	struct err e = { 0 };
	int r;

	if (!sb->template_wanted)
		return;
	c.accel = sb->accel;
	r = template_wanted(&c, sb->template_nic, sb->template.key, sb->loop, NULL, &sb->maker, &e);
	if (r < 0)
		log_info("no template is made", "sandbox=%s error=\"%s\"", c.rundir->id, e.msg);
}

void clone_done(struct sandbox *sb)
{
	clone_untake(sb);
	template_close(&sb->template);
	loop_child_free(TAKE_PTR(sb->maker));
}
