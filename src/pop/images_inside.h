/* SPDX-License-Identifier: Apache-2.0 */
/*
 * images_inside.h -- room at the engine, between who fetches images (images.c) and who knows which
 * are there (images_given.c). Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent;

/* The engine's disk has no room for the revision's image. Of those that it has from us the one goes
 * that nobody has used for the longest and that nothing here needs; who asks for it has it fetched
 * again. Ends in agent_images_room_made(), not from inside. False: there is none. */
bool agent_image_make_room(struct agent *agent, uint64_t revision);

/* images.c; `made` false: it could not go. */
void agent_images_room_made(struct agent *agent, uint64_t revision, bool made);
