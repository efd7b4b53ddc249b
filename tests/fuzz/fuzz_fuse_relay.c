/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest sends to its shared directories, and a daemon that answers as it likes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/fake_virtiofsd.h"
#include "base/fd.h"
#include "storage/fuse_relay.h"

static void on_ready(void *data)
{
	*(bool *)data = true;
}

static void on_broken(void *data, const struct err *e)
{
}

/* Replies are as long as the request's last byte says, or as they should be. */
static void answer(struct fake_fs *fs)
{
	struct fake_request r;

	while (fake_fs_take(fs, &r)) {
		uint32_t len = r.len > 0 ? r.data[r.len - 1] : 0;

		memcpy(r.reply, &len, MIN(sizeof(len), r.room));
		fake_fs_finish(fs, r.id, len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fuse_relay_handlers handlers = { on_ready, on_broken };
	struct fuse_relay *relay = NULL;
	struct loop *loop = NULL;
	bool ready = false;
	bool never = false;
	struct fake_fs fs = FAKE_FS(-1);
	int guest[2];
	int daemon[2];
	uint8_t sink[4096];

	if (size > 65536 || loop_new(&loop) < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, guest) < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, daemon) < 0)
		return 0;
	fs.sock = daemon[1];
	if (fuse_relay_new(loop, guest[0], daemon[0], 10000, &handlers, &ready, &relay) == 0) {
		while (!ready) {
			(void)fake_fs_hear(&fs);
			(void)loop_run_until(loop, &never, 0);
		}
		(void)!write(guest[1], data, size);
		for (int i = 0; i < 8; i++) {
			(void)loop_run_until(loop, &never, 0);
			answer(&fs);
			(void)!read(guest[1], sink, sizeof(sink));
		}
		fuse_relay_free(relay);
	}
	fake_fs_done(&fs);
	loop_free(loop);
	close(guest[0]);
	close(guest[1]);
	return 0;
}
