/* SPDX-License-Identifier: Apache-2.0 */
/*
 * asked.h -- from where this PoP's endpoints were asked for (contract/asked.h), between the
 * gateway, which counts, and control, which places by it. What a report told and nobody
 * acknowledged is told again, over the longer time. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "contract/asked.h"

struct json_writer;
struct message_asked;

enum {
    POP_ASKED_ROWS_MAX = 4096, /* of all endpoints, in one report; of each those most came from */
    POP_ASKED_ENDPOINTS_MAX = 4096,
    POP_ASKED_MS_MIN = 1000, /* shorter times are told with the next report */
};

struct pop_asked {        /* zeroed is an empty one */
    struct map endpoints; /* by uid */
    int64_t since_ns;     /* of what is counted; 0: not begun */
    int64_t told_ns;      /* when the report that is under way was made; 0: it says nothing */
};

void pop_asked_add(struct pop_asked *asked, const struct message_asked *message);
void pop_asked_deinit(struct pop_asked *asked);

/* Member "demand" of an open object, if there is enough to tell of. */
void pop_asked_write(struct pop_asked *asked, struct json_writer *w, int64_t now_ns);
void pop_asked_taken(struct pop_asked *asked); /* control has it */
