/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room.h -- what may be put on a disk at once. What comes in bulk (a volume, what is pulled) leaves
 * a floor free for what has to be written there all the time: control's database, a PoP's table,
 * its ledger, logs. A disk that cannot be asked has room: writing says what is wrong with it.
 *
 * Any thread; one system call.
 */
#pragma once

#include <stdint.h>

struct err;

/* Pure. That is left of a disk of so many bytes: a sixteenth, 256 MiB at most. */
uint64_t room_floor(uint64_t disk_bytes);
/* Pure. So many bytes would have to be freed before `bytes` may come; 0: there is room. */
uint64_t room_short(uint64_t disk_bytes, uint64_t free_bytes, uint64_t bytes);

/* The same of the disk that `path` is on, by what anybody may still take of it. */
uint64_t room_lacks(const char *path, uint64_t bytes);
/* ERR_OVERLOADED: it has no room for "it", which has so many bytes. */
[[nodiscard]] int room_check(const char *path, uint64_t bytes, struct err *err);
