/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What control answers is how far it has counted, whatever was sent: so a call whose answer was
 * lost, one that came twice, and one to a control that was set back all end in the same state.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "pop/agent.h"

enum {
    SEND_TIMEOUT_MS = 10'000,
    SEND_AGAIN_MS = 1'000,
    SEND_AGAIN_MS_MAX = 60'000,
};

static void on_send_again(struct env_timer *, void *data)
{
    agent_usage_send(data);
}

static void again_later(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    int64_t ms = SEND_AGAIN_MS << (usage->send_failures < 6 ? usage->send_failures : 6);
    usage->send_failures++;
    env_timer_start(agent->env, &usage->send_again,
                    (ms < SEND_AGAIN_MS_MAX ? ms : SEND_AGAIN_MS_MAX) * ENV_MS, on_send_again,
                    agent);
}

/* {"ledger", "counted", "check"}. False: that is none. */
static bool answer_take(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice id, check;
    struct ledger_id said;
    struct ledger_check digest;
    yyjson_val *root;
    uint64_t counted;
    bool good = json_parse(arena, (struct slice){ usage->answer, usage->answer_bytes }, NULL, &root,
                           &err) == 0 &&
                json_get_u64(root, "counted", JSON_REQUIRED, &counted, &err) >= 0 &&
                json_get_string(root, "ledger", JSON_REQUIRED, &id, &err) >= 0 &&
                json_get_string(root, "check", JSON_REQUIRED, &check, &err) >= 0 &&
                ledger_unhex(id, said.bytes) && ledger_unhex(check, digest.bytes);
    /* Of a ledger that has meanwhile been given up nothing follows. */
    if (good && memcmp(&said, &usage->ledger.id, sizeof said) == 0)
        ledger_counted(&usage->ledger, counted, &digest);
    arena_free(arena);
    return good;
}

static void on_send_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct agent *agent = data;
    (void)call;
    agent->usage.send_status = response->status;
}

static void on_send_body(struct http_call *call, struct slice bytes, void *data)
{
    struct agent_usage *usage = &((struct agent *)data)->usage;
    (void)call;
    size_t room = sizeof usage->answer - usage->answer_bytes;
    size_t size = bytes.size < room ? bytes.size : room;
    memcpy(usage->answer + usage->answer_bytes, bytes.data, size);
    usage->answer_bytes += size;
}

static void on_send_done(struct http_call *call, const struct err *err, void *data)
{
    struct agent *agent = data;
    struct agent_usage *usage = &agent->usage;
    (void)call;
    arena_free(usage->send_arena);
    usage->send_arena = NULL;
    usage->sending = NULL;
    if (err && err->code == ERR_CANCELED)
        return;
    if (err || usage->send_status != 200 || !answer_take(agent)) {
        usage->refusals += !err && usage->send_status != 503;
        if (!err && usage->send_status != 503)
            log_warn("pop", "control does not take usage, trying again later",
                     LOG_I("status", usage->send_status));
        again_later(agent);
        return;
    }
    /* Once it may be that control had counted elsewhere: then the next call is right. */
    if (usage->ledger.counted == usage->sent_counted) {
        again_later(agent);
        return;
    }
    usage->send_failures = 0;
    agent_usage_send(agent);
}

void agent_usage_send(struct agent *agent)
{
    static const struct http_call_events events = { on_send_head, on_send_body, on_send_done };
    struct agent_usage *usage = &agent->usage;
    if (usage->sending || !agent->control_there || !agent->client || !usage->open ||
        env_timer_armed(&usage->send_again))
        return;
    struct arena *arena = arena_new();
    struct slice body;
    if (!ledger_to_send(&usage->ledger, arena, &body)) {
        arena_free(arena);
        return;
    }
    const struct agent_word word = { "usage", "application/octet-stream", body, SEND_TIMEOUT_MS };
    usage->send_arena = arena;
    usage->send_status = 0;
    usage->answer_bytes = 0;
    usage->sent_counted = usage->ledger.counted;
    usage->sends++;
    usage->sending = agent_tell(agent, arena, &word, &events, agent);
}

void agent_usage_send_close(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    if (usage->open)
        env_timer_stop(agent->env, &usage->send_again);
    arena_free(usage->send_arena);
    usage->send_arena = NULL;
}
