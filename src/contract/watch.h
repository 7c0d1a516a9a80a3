/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch.h -- how an agent's watch on control goes on where it was cut (docs/api.md).
 *
 * Control numbers what it tells upwards, within an epoch: the life of one of its processes, drawn
 * at its start, so that a control that is restored from a backup is not taken for the one before.
 * Each watch begins with "begins": the epoch, and whether what follows is all of the state or what
 * has changed; the end of that is "synced", with all endpoints that there are. An agent that has
 * read so far has all up to its last event's number, from here on, and says so when it comes again:
 * Last-Event-ID: EPOCH-NUMBER.
 *
 * Of secrets a watch begins with "secrets", the names of all that the agent is to have; it forgets
 * the others before it hears of new ones, and so never has more than WATCH_SECRETS_MAX.
 *
 * A control of before says no "begins": its watches tell all. An agent of before says no
 * Last-Event-ID, and leaves out an event that it does not know. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

struct watch_mark {
    uint64_t epoch; /* 0: there is none */
    uint64_t number;
};

/* "00c0ffee00c0ffee-1764000000000123": 16 small hexadecimal digits, and a decimal number. */
enum { WATCH_SECRETS_MAX = 1000 }; /* as many as control has (store.h) */

enum { WATCH_MARK_BYTES = 16 + 1 + 20 + 1 };
const char *watch_mark_text(struct watch_mark mark, char text[static WATCH_MARK_BYTES]);
struct watch_mark watch_mark_read(struct slice text); /* anything else: none */

struct watch_begins {
    uint64_t epoch; /* 0: there is none */
    bool resumed;   /* what has not changed is not told */
};
struct slice watch_begins_json(struct arena *arena, const struct watch_begins *begins);
[[nodiscard]] int watch_begins_read(struct slice json, struct watch_begins *ret, struct err *err);

struct watch_synced {
    const uint64_t *uids; /* of endpoints */
    size_t uid_count;
};
struct slice watch_synced_json(struct arena *arena, const struct watch_synced *synced);
/* What it holds lies in the arena. */
[[nodiscard]] int watch_synced_read(struct arena *arena, struct slice json,
                                    struct watch_synced *ret, struct err *err);
