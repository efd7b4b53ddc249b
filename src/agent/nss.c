/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent looks up no users: crun gets numbers. But libuv has a function (uv_os_homedir(), which
 * nobody here calls) that does, in the same object as what we need, and with it a static program
 * would get glibc's name service switch and its dynamic loader. This definition keeps them out.
 */
#include <errno.h>
#include <pwd.h>
#include <stddef.h>

int getpwuid_r(uid_t uid, struct passwd *pwd, char *buf, size_t size, struct passwd **result)
{
	*result = NULL;
	return ENOSYS;
}
