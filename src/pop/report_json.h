/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report_json.h -- the agent's report as JSON (docs/api.md, POST /api/v1/pops/NAME/report). Text
 * from workers is outside text: json_string() makes it valid UTF-8, who prints it escapes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct json_writer;
struct perigee_model;
struct pop;
struct pop_death;
struct pop_endpoint;
struct pop_replica;

/* What else goes into a report, beside how everything is. */
struct report_room {
    uint32_t items_max;
    size_t bytes_max;
    uint32_t taken; /* items */
};

/* One more of so many bytes; the first one always fits. False: not any more. */
bool report_room_take(struct report_room *room, size_t bytes);

/* Members "sets", "replicas", "endpoints", "models" of an open object. Models that control has not
 * heard of go in while there is room, and are marked as in flight. */
void report_state(struct json_writer *w, struct pop *pop, struct report_room *room);
struct slice report_event(struct arena *arena, uint64_t sequence, int64_t wall_ns, const char *kind,
                          const struct pop_endpoint *endpoint, const struct pop_replica *replica,
                          const char *message);
/* `lines`: the last ones; else how many they are. */
struct slice report_death(struct arena *arena, uint64_t sequence,
                          const struct pop_endpoint *endpoint, const struct pop_death *death,
                          bool lines);
/* What stands in place of lines that residency keeps at this PoP. */
const char *report_kept(struct arena *arena, uint64_t lines);
struct slice report_log(struct arena *arena, uint64_t sequence, int64_t wall_ns,
                        const struct pop_replica *replica, struct slice line);
/* RFC 3339, UTC, milliseconds. */
const char *report_time(int64_t wall_ns, char buffer[static 40]);

/* The members "loads", where the mesh is, and "clients": clients.c. */
struct agent;
void report_loads(struct json_writer *w, struct agent *agent);
void report_clients(struct json_writer *w, struct agent *agent);
