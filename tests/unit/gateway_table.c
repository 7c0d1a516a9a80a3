/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a gateway's world, as its agent publishes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "gateway_world.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void endpoint_source(const struct world_endpoint *from, size_t index, struct arena *arena,
                            struct table_source_endpoint *ret)
{
    static const struct slice origins[] = { SLICE("https://app.example") };
    static const struct slice domains[] = { SLICE("ml.example.com") };
    static const struct slice aliases[] = { SLICE("org/Digits") };
    struct table_source_revision *revisions =
        ARENA_ARRAY(arena, struct table_source_revision, from->revisions + 1);

    for (uint32_t i = 0; i < from->revisions; i++)
        revisions[i] = (struct table_source_revision){
            .uid = WORLD_REVISION(index, i + 1),
            .number = i + 1,
            .runtime = SLICE("onnx"),
            .model = from->model ? fake_model() : (struct slice){},
            .message = slice_of(from->message),
            .reach_kind = from->targets ? TABLE_REACH_HTTP : TABLE_REACH_RINGS,
            .retried = from->retried,
            .targets = from->targets,
            .target_count = from->target_count,
        };
    *ret = (struct table_source_endpoint){
        .uid = index + 1,
        .name = slice_of(from->name),
        .project = SLICE("default"),
        .state = from->state ? from->state : TABLE_ENDPOINT_RUNNING,
        .serving_number = from->serving,
        .revisions = revisions,
        .revision_count = from->revisions,
        .queue_depth = from->queue_depth,
        .concurrency = from->concurrency,
        .start_ms = from->start_ms,
        .queue_timeout_us = from->queue_timeout_ms * 1000,
        .queue_cold_us = from->queue_cold_ms * 1000,
        .timeout_us = from->timeout_ms * 1000,
        .body_bytes_max = from->body_bytes_max,
        .queue_bytes_max = from->queue_bytes_max ? from->queue_bytes_max : 1 << 28,
        .rules = from->rules,
        .rule_count = from->rule_count,
        .unknown_client = from->unknown_client,
        .elsewhere = slice_of(from->elsewhere),
        .placements = from->placements,
        .placement_count = from->placement_count,
        .shares = from->shares,
        .share_count = from->share_count,
        .canary_number = from->canary,
        .by_address = from->by_address,
    };
    if (index == 0) {
        ret->origins = origins;
        ret->domains = domains;
        ret->aliases = aliases;
        ret->origin_count = ret->domain_count = ret->alias_count = 1;
    }
}

void world_table(struct world *world, uint64_t number, const struct world_endpoint *endpoints,
                 size_t count)
{
    struct arena *arena = arena_new();
    struct table_source_endpoint *sources =
        ARENA_ARRAY(arena, struct table_source_endpoint, count + 1);
    static const struct table_source_pop pops[] = { { .name = SLICE("local") },
                                                    { .name = SLICE("paris"), .country = 148 } };
    struct table_source source = { .number = number,
                                   .pops = world->pops ? world->pops : pops,
                                   .pop_count = world->pops ? world->pop_count : 2,
                                   .country = slice_of(world->country),
                                   .zone = SLICE("perigee.test"),
                                   .pop = SLICE("local"),
                                   .endpoints = sources,
                                   .endpoint_count = count };
    union message message = { .as_MESSAGE_TABLE_NEW = MESSAGE_INIT(MESSAGE_TABLE_NEW) };
    struct slice bytes;
    struct err err;
    int fd;

    for (size_t i = 0; i < count; i++)
        endpoint_source(&endpoints[i], i, arena, &sources[i]);
    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    assert_int_equal(shm_publish("table", bytes.data, bytes.size, &fd, &err), 0);
    message.as_MESSAGE_TABLE_NEW.number = number;
    message.as_MESSAGE_TABLE_NEW.bytes = bytes.size;
    world_send(world, &message, &fd, 1);
    fd_close(&fd);
    arena_free(arena);
}
