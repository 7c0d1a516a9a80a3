/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit_own.h -- what the files of admission share among themselves: admit.c keeps who waits,
 * admit_place.c gives places, admit_time.c says when an answer would be there, admit_move.c takes
 * inputs from one revision's arena to another's. Loop thread only.
 */
#pragma once

#include <stdbool.h>

struct err;
struct request;
struct revision_side;

bool admit_room(void *data); /* of a revision_side: is a place free? */
/* The inputs go over to the arena of the revision that serves now. 1: not yet. */
[[nodiscard]] int admit_move(struct request *request, struct err *err);
