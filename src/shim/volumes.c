/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volumes.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include "base/fd.h"
#include "shim/create.h"
#include "shim/task.h"
#include "storage/virtiofs.h"

#define FILE_MAX    ((size_t)1 << 20)
#define SHM_DEFAULT ((uint64_t)64 << 20)

static int share_volumes(struct task *t, struct err *e)
{
	const struct spec_plan *plan = &t->create->plan;
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_shares; i++) {
		const struct spec_share *s = &plan->shares[i];

		r = task_note_share(t, s->name, e);
		if (r == 0)
			r = virtiofs_share_add(t->shim->pod.shared_dir, s->source, s->readonly,
					       s->name, e);
	}
	return r;
}

static int read_files(struct task_create *c, struct err *e)
{
	for (size_t i = 0; i < c->plan.n_files; i++) {
		const struct spec_file *f = &c->plan.files[i];
		int r = file_read(AT_FDCWD, f->source, FILE_MAX, &c->texts[i], NULL);

		if (r < 0)
			return err_errno(e, r, "cannot read %s", f->source);
		c->config.files[i] = (struct container_file){ f->name, c->texts[i], 0644 };
	}
	c->config.n_files = c->plan.n_files;
	return 0;
}

static uint64_t shm_size(const char *source)
{
	struct statvfs st;

	if (!source || statvfs(source, &st) < 0 || st.f_blocks == 0)
		return SHM_DEFAULT;
	return (uint64_t)st.f_blocks * st.f_frsize;
}

int volumes_prepare(void *obj, struct err *e)
{
	struct task *t = obj;
	struct task_create *c = t->create;
	int r;

	c->config.shm = c->plan.shm ? SPEC_SHM : NULL;
	c->config.shm_size = shm_size(c->plan.shm_source);
	r = share_volumes(t, e);
	return r < 0 ? r : read_files(c, e);
}
