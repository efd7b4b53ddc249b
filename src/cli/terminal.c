/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static bool is_raw;

void terminal_restore(void)
{
	if (is_raw)
		(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	is_raw = false;
}

void terminal_raw(void)
{
	static bool registered;
	struct termios raw;

	if (is_raw || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	if (!registered)
		atexit(terminal_restore);
	registered = true;
	raw = saved;
	cfmakeraw(&raw);
	is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void terminal_size(unsigned int *columns, unsigned int *rows)
{
	struct winsize ws = { 0 };

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0)
		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &ws);
	*columns = ws.ws_col;
	*rows = ws.ws_row;
}
