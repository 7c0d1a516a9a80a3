/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hidden.h -- values that no text for people may hold. An engine says in words of its own what is
 * wrong with a container, and may say what it was given: those words go to events and logs.
 *
 * Found as they are, with what cannot be printed as a blank (stream.h), or behind backslashes, also
 * as numbers, as in what somebody quotes; and, from its fourth byte on, the beginning of one where
 * a text is cut.
 * Immutable; any number of threads.
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct engine_hidden;

/* Copied, into pages that no core file has. NULL: there are none. */
struct engine_hidden *engine_hidden_new(const struct slice *values, size_t count);
void engine_hidden_free(struct engine_hidden *hidden); /* NULL is allowed */
/* In place: asterisks, three at most, are where one was. Texts above ENGINE_HIDDEN_TEXT_MAX are cut
 * there. NULL: nothing is hidden. */
enum { ENGINE_HIDDEN_TEXT_MAX = 2048 };
void engine_hide(const struct engine_hidden *hidden, char *text);
