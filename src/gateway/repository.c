/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load and unload: start and stop of an endpoint, which the agent decides. The answer comes when
 * the agent says how it ended, or after a bound.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/request.h"
#include "io/loop.h"

#define LOOP_SHIFT 56 /* of the number: which loop asked */

static void on_due(struct env_timer *timer, void *data)
{
    (void)timer;
    ANSWER_ERROR((struct request *)data, ERR_DEADLINE, "the model was not %s within %d s",
                 ((struct request *)data)->route.call == OIP_REPOSITORY_LOAD ? "loaded"
                                                                             : "unloaded",
                 (int)gateway_repository_ms / 1000);
}

static void on_body(struct request *request, struct slice text)
{
    struct gateway_loop *gl = request->gl;
    struct message_repository message = { .head = { MESSAGE_MAGIC, MESSAGE_REPOSITORY,
                                                    MESSAGE_VERSION } };
    struct err err;

    if (oip_load_parse(request->arena, text, &err) < 0) {
        answer_error(request, &err);
        return;
    }
    if (gl->repository.count >= gateway_repository_max) {
        ANSWER_ERROR(request, ERR_OVERLOADED, "%d loads and unloads are under way; try again",
                     (int)gateway_repository_max);
        return;
    }
    request->number = (uint64_t)(gl->index + 1) << LOOP_SHIFT | ++gl->repository_last;
    map_put_u64(&gl->repository, request->number, request);
    message.request = request->number;
    message.endpoint = request->row->uid;
    message.op = request->route.call == OIP_REPOSITORY_LOAD ? REPOSITORY_LOAD : REPOSITORY_UNLOAD;
    int64_t due = loop_now_ns() + gateway_repository_ms * ENV_MS;
    if (request->deadline_ns && request->deadline_ns < due)
        due = request->deadline_ns;
    shard_deadline(gl, &request->timer, due, on_due, request);
    shard_repository(gl, &message);
}

void repository_begin(struct request *request)
{
    struct err err;

    request->on_text = on_body;
    if (body_begin_other(request, gateway_json_bytes_max, &err) < 0)
        answer_error(request, &err);
}

void repository_cancel(struct request *request)
{
    map_remove_u64(&request->gl->repository, request->number);
    request->number = 0;
}

static void answer(struct request *request, const struct message_repository_done *done)
{
    struct err err = { .code = done->code };

    if (!request) /* it was answered, or its client went away */
        return;
    if (done->code == 0) {
        answer_json(request, 200, (struct slice){});
        return;
    }
    snprintf(err.message, sizeof err.message, "%s", done->text);
    answer_error(request, &err);
}

void repository_done(struct gateway_loop *gl, const struct message_repository_done *done)
{
    if (done->request) {
        answer(map_get_u64(&gl->repository, done->request), done);
        return;
    }
    /* The agent is gone. From the start each time: an answer takes its entry out, and may bring in
     * the next request of its connection. */
    struct map_entry *entry;
    for (size_t at = 0; (entry = map_next(&gl->repository, &at)) != NULL; at = 0)
        answer(entry->value, done);
}
