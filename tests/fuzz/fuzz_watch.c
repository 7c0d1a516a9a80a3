/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of an agent's watch that goes on behind number 5 of epoch 7: the same comes of it
 * whatever the pieces, and there is a mark only where all up to it has been taken.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "bare_pop.h"
#include "pop/told.h"
#include "proto/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct watch_mark had = { 7, 5 };

struct agent {
    struct pop pop;
    struct pop_told told;
};

static bool same(struct watch_mark a, struct watch_mark b)
{
    return a.epoch == b.epoch && a.number == b.number;
}

static bool on_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct agent *agent = data;
    const struct pop_told *told = &agent->told;
    bool more = pop_told_event(&agent->told, &agent->pop, kind, id, text) != POP_TOLD_ASTRAY;
    if (told->synced ? told->mark.epoch && (told->lost || told->mark.epoch != told->epoch ||
                                            told->mark.number != told->number)
                     : told->mark.epoch && !same(told->mark, had))
        abort();
    if (told->mark.epoch && !told->synced && told->begun && !told->resumed)
        abort();
    return more;
}

/* What is wanted then, as a sum. */
static uint64_t hear(struct slice stream, size_t piece, struct watch_mark *ret_mark)
{
    static const char first[] =
        "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":[],"
        "\"spec\":{\"name\":\"digits\",\"model\":\"m\",\"regions\":[\"eu\"]}}";
    struct env env = BARE_ENV;
    struct agent agent = {};
    struct sse sse = { .on_event = on_event, .data = &agent };
    const struct pop_endpoint *endpoint;
    struct err err;
    uint64_t sum = 0;
    pop_init(&agent.pop, &env, 1, &bare_effects, NULL);
    agent.pop.name = "berlin";
    if (pop_endpoint_apply(&agent.pop, slice_of(first), &err) < 0)
        abort();
    agent.told.mark = had;
    pop_told_open(&agent.told);
    for (size_t at = 0; at < stream.size; at += piece) {
        size_t size = stream.size - at < piece ? stream.size - at : piece;
        if (!sse_feed(&sse, (struct slice){ stream.data + at, size }))
            break;
    }
    LIST_EACH (endpoint, &agent.pop.endpoints, struct pop_endpoint, link)
        sum += endpoint->wanted ? endpoint->uid * 31 + endpoint->json.size : 0;
    *ret_mark = agent.told.mark;
    sse_deinit(&sse);
    pop_deinit(&agent.pop);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice stream = { (const char *)data, size };
    struct watch_mark whole, bytewise;
    log_level_set(LOG_ERROR + 1);
    if (hear(stream, size ? size : 1, &whole) != hear(stream, 1, &bytewise) ||
        !same(whole, bytewise))
        abort();
    return 0;
}
