/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_TERMINAL_H
#define PODVM_CLI_TERMINAL_H

/* Our own terminal, while a container's terminal is shown on it. */

#include <stdbool.h>

/** terminal_raw() - Pass every key on, if stdin is a terminal; put back at exit at the latest */
void terminal_raw(void);

/** terminal_restore() - As it was before terminal_raw(); fine if it never was called */
void terminal_restore(void);

/** terminal_size() - Columns and rows of the terminal on stdin or stdout, 0: there is none */
void terminal_size(unsigned int *columns, unsigned int *rows);

#endif
