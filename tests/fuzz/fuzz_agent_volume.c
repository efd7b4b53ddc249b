/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The changes of an UpdateVolume, made in a directory that somebody has prepared to lead them out
 * of it: whatever they are, what is beside the directory stays as it is.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/volume.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_traps(int dir)
{
	int outside;

	if (mkdirat(dir, "outside", 0700) < 0 || mkdirat(dir, "volume", 0755) < 0 ||
	    mkdirat(dir, "volume/d", 0755) < 0 || symlinkat("../outside", dir, "volume/link") < 0 ||
	    symlinkat("../../outside/file", dir, "volume/d/file") < 0 ||
	    mkfifoat(dir, "volume/fifo", 0600) < 0)
		abort();
	outside = openat(dir, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (outside < 0 || file_replace(outside, "file", "kept", 4, 0640) < 0)
		abort();
	close(outside);
}

static void check_outside(int dir)
{
	_cleanup_(freep) char *text = NULL;
	struct stat st;

	if (file_read(dir, "outside/file", 64, &text, NULL) < 0 || !str_eq(text, "kept"))
		abort();
	if (fstatat(dir, "outside/file", &st, 0) < 0 || (st.st_mode & 07777) != 0640 ||
	    fstatat(dir, "outside", &st, 0) < 0 || (st.st_mode & 07777) != 0700 || st.st_nlink != 2)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct agent agent;
	Podvm__Agent__V1__UpdateVolumeRequest *req;
	char path[] = "/tmp/podvm-fuzz.XXXXXX";
	_cleanup_(close_fdp) int dir = -EBADF;
	_cleanup_(close_fdp) int volume = -EBADF;

	req = podvm__agent__v1__update_volume_request__unpack(NULL, size, data);
	if (!req)
		return 0;
	if (!mkdtemp(path))
		abort();
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_traps(dir);
	memset(&agent, 0, sizeof(agent));
	if (loop_new(&agent.loop) < 0)
		abort();
	sockets_init(&agent.sockets, &agent);
	volume = openat(dir, "volume", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < req->n_changes; i++) {
		struct err e = { 0 };

		if (volume_change(volume, &agent.sockets, req->changes[i], &e) < 0 && !*e.msg)
			abort();
	}
	sockets_sweep(&agent.sockets);
	check_outside(dir);
	sockets_done(&agent.sockets);
	loop_free(agent.loop);
	if (rm_rf(AT_FDCWD, path) < 0)
		abort();
	podvm__agent__v1__update_volume_request__free_unpacked(req, NULL);
	return 0;
}
