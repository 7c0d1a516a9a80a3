/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load and unload of OIP's model repository: the gateway asks, the agent tells control to start or
 * stop the endpoint (the gateway never talks to control), and answers when that is so here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "pop/agent.h"

enum { REPOSITORY_TIMEOUT_MS = 10'000 };

struct repository {
    struct list link;
    struct agent *agent;
    struct arena *arena;
    uint64_t request, endpoint;
    uint32_t op;
    int status;
    bool told; /* control has answered well: now it is to become so */
    char body[1024];
    size_t body_used;
};

static void repository_end(struct repository *repository, int code, const char *text)
{
    struct message_repository_done done = MESSAGE_INIT(MESSAGE_REPOSITORY_DONE);
    /* What was done shows in the next table; who is told of it must find it so. */
    agent_publish_now(repository->agent);
    done.request = repository->request;
    /* One that there was no memory or disk for has the next number, and is tried again. */
    done.table = repository->agent->keep.table_number + repository->agent->table_dirty;
    done.code = code;
    snprintf(done.text, sizeof done.text, "%s", text);
    wire_send(&repository->agent->gateway, &done, sizeof done, -1);
    list_remove(&repository->link);
    arena_free(repository->arena);
    free(repository);
}

static void look(struct repository *repository)
{
    struct pop_endpoint *endpoint =
        pop_endpoint_find(&repository->agent->pop, repository->endpoint);
    if (!endpoint || !endpoint->wanted) {
        repository_end(repository, ERR_NOT_FOUND, "the endpoint was deleted meanwhile");
        return;
    }
    if (repository->op == REPOSITORY_UNLOAD) {
        if (!endpoint->running)
            repository_end(repository, 0, "");
        return;
    }
    if (endpoint->elsewhere) {
        repository_end(repository, ERR_PRECONDITION, endpoint->elsewhere);
        return;
    }
    if (!endpoint->running)
        return; /* control's word has not come through yet */
    const struct pop_revision *target = pop_revision_number(endpoint, endpoint->target);
    const struct pop_revision *serving = pop_revision_number(endpoint, endpoint->serving);
    if (serving && pop_revision_ready(serving) > 0)
        repository_end(repository, 0, "");
    else if (target && target->failed)
        repository_end(repository, ERR_PRECONDITION, target->message);
}

void agent_repository_look(struct agent *agent)
{
    struct repository *repository;
    LIST_EACH (repository, &agent->repository, struct repository, link)
        if (repository->told)
            look(repository);
}

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct repository *repository = data;
    (void)call;
    repository->status = response->status;
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    struct repository *repository = data;
    size_t room = sizeof repository->body - repository->body_used;
    (void)call;
    if (bytes.size > room)
        bytes.size = room;
    memcpy(repository->body + repository->body_used, bytes.data, bytes.size);
    repository->body_used += bytes.size;
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct repository *repository = data;
    (void)call;
    if (err) {
        repository_end(repository, ERR_OVERLOADED,
                       "control is away; models can be loaded and "
                       "unloaded once it is back");
        return;
    }
    if (repository->status >= 300) {
        struct slice body = { repository->body, repository->body_used }, detail = {};
        yyjson_val *root;
        struct err ignored;
        if (json_parse(repository->arena, body, NULL, &root, &ignored) == 0)
            (void)json_get_string(root, "detail", JSON_OPTIONAL, &detail, &ignored);
        repository_end(repository, repository->status == 404 ? ERR_NOT_FOUND : ERR_CONFLICT,
                       detail.size ? arena_string(repository->arena, detail) : "control refused");
        return;
    }
    repository->told = true;
    look(repository);
}

void agent_repository(struct agent *agent, const struct message_repository *request)
{
    static const struct http_call_events events = { on_head, on_body, on_done };
    struct pop_endpoint *endpoint = pop_endpoint_find(&agent->pop, request->endpoint);
    struct repository *repository = mem_zalloc(sizeof *repository);
    repository->agent = agent;
    repository->arena = arena_new();
    repository->request = request->request;
    repository->endpoint = request->endpoint;
    repository->op = request->op;
    list_append(&agent->repository, &repository->link);
    if (!endpoint) {
        repository_end(repository, ERR_NOT_FOUND, "no such model");
        return;
    }
    const char *verb = request->op == REPOSITORY_LOAD ? "start" : "stop";
    const struct http_header headers[] = {
        HTTP_HEADER("Content-Type", SLICE("application/json")),
    };
    struct http_request_spec spec = {
        .address = &agent->control.address,
        .authority = agent->control.authority,
        .method = "POST",
        .target = slice_of(
            arena_format(repository->arena, "%.*s/api/v1/projects/%s/endpoints/%s/%s",
                         SLICE_FMT(agent->control.base), endpoint->project, endpoint->name, verb)),
        .headers = headers,
        .header_count = 1, /* the request's id is the client's, and stays here */
        .body = SLICE("{}"),
        .timeout_ms = REPOSITORY_TIMEOUT_MS,
    };
    (void)http_client_call(agent->client, &spec, &events, repository);
}

void agent_repository_close(struct agent *agent)
{
    struct repository *repository;
    LIST_EACH (repository, &agent->repository, struct repository, link)
        if (repository->told)
            repository_end(repository, ERR_CANCELED, "the agent ends");
}
