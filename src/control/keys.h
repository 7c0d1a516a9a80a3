/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h -- the keys by which PoPs know each other (proto/hop.h). One secret of the fleet, made
 * once, in HOME/control/hop.key (0600); of it, and of the secret each of two PoPs joined with, the
 * key of that pair. Who joins anew, or is retired, has other keys than before, or none. Told over
 * the watch to its own agent alone; never shown, logged, or part of a list. Loop thread.
 */
#pragma once

#include "base/slice.h"

struct arena;
struct control;
struct err;
struct hub_pop;

#define CONTROL_KEY_FILE "control/hop.key"

[[nodiscard]] int keys_open(struct control *control, struct err *err);
void keys_close(struct control *control);
/* Who is there may have changed: those who watch are told a moment later, once for many. */
void keys_look(struct control *control);
/* {"keys":[{"pop","key"}]}: of that PoP with each, itself included. The arena is a secret one. */
struct slice keys_json(struct control *control, const struct hub_pop *pop, struct arena *arena);
