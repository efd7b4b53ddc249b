/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/machine_default.h"

#include <errno.h>
#include <sched.h>
#include <sys/param.h>
#include <sys/sysinfo.h>

#include "base/str.h"

/* How many times the CPUs that it starts with a pod may have one day. */
#define VCPUS_FACTOR 4

unsigned int machine_host_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned int)CPU_COUNT(&set);
}

uint64_t machine_host_memory(void)
{
	struct sysinfo info = { 0 };

	sysinfo(&info);
	return (uint64_t)info.totalram * info.mem_unit;
}

int machine_default(const struct config *config, struct sandbox_config *c, struct err *e)
{
	c->driver = vmm_driver_find(config->driver);
	if (!c->driver)
		return err_set(e, -EINVAL, "there is no monitor %s", config->driver);
	c->accel = (enum vmm_accel)config->accel;
	c->machine = str_empty(config->machine) ? NULL : config->machine;
	c->binary = str_empty(config->binary) ? NULL : config->binary;
	c->state_dir = config->state;
	c->uid_base = config->uid_base;
	c->debug = config->debug;
	c->agent_timeout_ms = config->agent_timeout;
	c->boot_timeout_ms = config->boot_timeout;
	return 0;
}

/* CPUs that aren't used yet cost each pod some time and memory, so there aren't many. */
void machine_default_maximum(const struct config *config, struct sandbox_config *c)
{
	c->max_vcpus = config->max_vcpus;
	if (!c->max_vcpus)
		c->max_vcpus = MIN(c->vcpus * VCPUS_FACTOR, machine_host_cpus());
	c->max_memory = config->max_memory ? config->max_memory : machine_host_memory();
}
