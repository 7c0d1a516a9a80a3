/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reserve.h -- a file that holds room on the disk for the next start on a full one.
 *
 * After a clean end SQLite has removed its log and index, and must make both anew before it can
 * even read. What the reserve holds is enough for that. Best effort: its loss is no error. Blocks.
 */
#pragma once

#include <stdbool.h>

/* Of the state at `path`: PATH.reserve is there, or is made where there is room to spare. */
void reserve_keep(const char *path);
/* Gives its room back. False: there was none. */
bool reserve_give(const char *path);
