/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TTRPC_CODE_H
#define PODVM_TTRPC_CODE_H

/**
 * text_clean() - Make a peer's text fit for a protobuf string and for a terminal
 * @text:	Changed in place: what isn't UTF-8 and control characters become '?', line breaks
 *		and tabs become spaces
 */
void text_clean(char *text);

#endif
