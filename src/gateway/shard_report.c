/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a loop tells the main thread: each a small heap object, posted. Loop thread; the callbacks
 * run on the main thread.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "gateway/core.h"
#include "gateway/shard_own.h"
#include "io/loop.h"

struct report {
    struct gateway *gateway;
    uint64_t id;
    enum replica_end end;
    char text[256];
    struct message_repository repository;
};

static struct report *report_new(struct gateway_loop *gl, uint64_t id)
{
    struct report *report = mem_zalloc(sizeof *report);

    report->gateway = gl->gateway;
    report->id = id;
    return report;
}

static void on_report_kill(void *data)
{
    struct report *report = data;

    world_kill(report->gateway, report->id, report->end, report->text);
    free(report);
}

void shard_kill(struct gateway_loop *gl, struct lane *lane, enum replica_end end, const char *text)
{
    struct report *report = report_new(gl, lane->replica->id);

    report->end = end;
    snprintf(report->text, sizeof report->text, "%s", text);
    /* Nothing new goes there meanwhile. */
    if (!list_empty(&lane->link)) {
        struct revision *revision = lane->replica->owner;
        list_remove(&lane->link);
        revision->sides[gl->index].lane_count--;
    }
    loop_post(gl->gateway->main, on_report_kill, report);
}

static void on_report_look(void *data)
{
    struct report *report = data;

    world_replica_look(report->gateway, report->id);
    free(report);
}

void shard_report_look(struct gateway_loop *gl, uint64_t replica)
{
    loop_post(gl->gateway->main, on_report_look, report_new(gl, replica));
}

static void on_report_arena(void *data)
{
    struct report *report = data;

    world_arena_want(report->gateway, report->id);
    free(report);
}

void shard_want_arena(struct gateway_loop *gl, uint64_t revision)
{
    loop_post(gl->gateway->main, on_report_arena, report_new(gl, revision));
}

static void on_report_drained(void *data)
{
    struct report *report = data;

    world_replica_lane_drained(report->gateway, report->id);
    free(report);
}

void shard_lane_drained(struct gateway_loop *gl, uint64_t replica)
{
    loop_post(gl->gateway->main, on_report_drained, report_new(gl, replica));
}

static void on_report_repository(void *data)
{
    struct report *report = data;
    union message message = { .as_MESSAGE_REPOSITORY = report->repository };

    if (!gateway_send_agent(report->gateway, &message)) {
        struct message_repository_done done = { .request = report->repository.request,
                                                .code = ERR_OVERLOADED };
        snprintf(done.text, sizeof done.text, "the agent of this PoP is restarting; try again");
        for (unsigned i = 0; i < report->gateway->loops; i++)
            shard_tell_done(&report->gateway->loop[i], &done);
    }
    free(report);
}

void shard_repository(struct gateway_loop *gl, const struct message_repository *message)
{
    struct report *report = report_new(gl, 0);

    report->repository = *message;
    loop_post(gl->gateway->main, on_report_repository, report);
}

static void on_report_table(void *data)
{
    struct report *report = data;

    world_table_served(report->gateway, report->id);
    free(report);
}

void shard_report_served(struct gateway_loop *gl, uint64_t table)
{
    loop_post(gl->gateway->main, on_report_table, report_new(gl, table));
}

static void on_report_inside(void *data)
{
    struct report *report = data;
    union message message = { .as_MESSAGE_NETNS_LOST = MESSAGE_INIT(MESSAGE_NETNS_LOST) };

    message.as_MESSAGE_NETNS_LOST.loop = (uint32_t)report->id;
    gateway_send_supervisor(report->gateway, &message);
    free(report);
}

void shard_inside_lost(struct gateway_loop *gl)
{
    loop_post(gl->gateway->main, on_report_inside, report_new(gl, gl->index));
}
