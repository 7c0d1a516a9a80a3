/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpus.h -- which of this machine's GPUs a replica gets: those that the fewest others have, so that
 * no two share one while another is free. None is refused for want of a free one: an update would
 * wait for what it replaces. By their UUIDs, which stay when others are taken out. Pure, but for
 * gpus_read(); any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum { GPUS_MAX = 64, GPU_ID_BYTES = 48, GPUS_TEXT_BYTES = 1024 };

#define GPUS_FOLDER "/proc/driver/nvidia/gpus" /* a folder each, by its place on the bus */

struct gpus {
    char ids[GPUS_MAX][GPU_ID_BYTES]; /* "GPU-0d8e...", by their place on the bus */
    size_t count;
};

/* Those of NVIDIA's that its driver names below that folder; none where there is no driver. */
void gpus_read(struct gpus *ret, const char *folder);
/* The file `information` of one. False: it has no UUID. */
bool gpus_id_parse(struct slice text, char ret[static GPU_ID_BYTES]);

/* What another replica has: by name, as it comes out below; or so many that the engine gave it,
 * which are the first (Docker's `Count`). */
struct gpus_held {
    struct slice ids; /* "GPU-...,GPU-..." */
    uint32_t count;   /* looked at where `ids` is empty */
};

/* Of those that equally few have the first one at or behind `turn`, any number: one that does not
 * work is free again after each start that failed, and would be tried for ever. Empty, so that it
 * is left to the engine: there are not so many here, or none is known. Returns buffer. */
const char *gpus_choose(const struct gpus *gpus, const struct gpus_held *held, size_t held_count,
                        uint32_t wanted, uint64_t turn, char buffer[static GPUS_TEXT_BYTES]);
