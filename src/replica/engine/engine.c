/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to an engine: one http_call each, and its body collected, handed on, or fed from files. */
#include "replica/engine/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "base/list.h"
#include "http/client.h"
#include "io/work.h"
#include "replica/engine/container.h"
#include "replica/engine/groups.h"
#include "replica/engine/stream.h"

enum { CHUNK = 256 * 1024, KEPT_MAX = 4, CONNECT_MS = 2000 };

struct engine {
    struct loop *loop;
    struct work_pool *pool;
    struct address address;
    struct http_client *client;
    struct engine_groups *groups;
    char prefix[24]; /* "/v1.41"; empty until engine_use() */
    bool podman;
};

struct engine_call {
    struct engine *engine;
    struct http_call *http;
    struct arena *arena;
    engine_cb on_done;
    engine_bytes_cb on_bytes;
    void *data;
    int status;
    char *body;
    size_t used, room;
    struct err err; /* what is wrong with the body; code 0: nothing */

    /* a load's */
    struct engine_lines lines;
    const struct engine_piece *pieces;
    size_t piece_count, piece;
    uint64_t at;
    char *chunk;
    size_t chunk_bytes;
    struct work work; /* reads a chunk */
    int read_errno;
    bool loads, reading, over, forgotten;
    struct err over_err;
};

struct engine *engine_new(struct loop *loop, struct work_pool *pool, const struct address *address)
{
    struct engine *engine = mem_zalloc(sizeof *engine);
    struct http_client_config config = {
        .connect_ms = CONNECT_MS,
        .head_ms = -1, /* Podman begins to answer once a container writes, or a load is done */
        .kept_max = KEPT_MAX,
    };
    engine->loop = loop;
    engine->pool = pool;
    engine->address = *address;
    engine->client = http_client_new(loop, &config);
    engine->groups = engine_groups_new(loop);
    return engine;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    http_client_free(engine->client);
    engine_groups_free(engine->groups);
    free(engine);
}

struct engine_groups *engine_groups(struct engine *engine)
{
    return engine->groups;
}

void engine_use(struct engine *engine, const struct engine_version *version)
{
    (void)snprintf(engine->prefix, sizeof engine->prefix, "/v%s", version->api);
    engine->podman = version->podman;
}

const char *engine_log_driver(const struct engine *engine)
{
    return engine->podman ? "k8s-file" : "local";
}

/* ---- the end of a call ----------------------------------------------------------------------- */

static void call_free(struct engine_call *call)
{
    engine_lines_deinit(&call->lines);
    arena_free(call->arena);
    if (call->used) /* what is said of a container says its environment */
        explicit_bzero(call->body, call->used);
    free(call->body);
    free(call->chunk);
    free(call);
}

/* What a status of 400 and more means, in the engine's own words. */
static void refused(const struct engine_call *call, struct err *err)
{
    char room[400];
    struct slice words =
        engine_error_of((struct slice){ call->body, call->used }, room, sizeof room);
    enum err_code code = call->status == 404   ? ERR_NOT_FOUND
                         : call->status == 409 ? ERR_CONFLICT
                         : call->status < 500  ? ERR_BAD_INPUT
                                               : ERR_PRECONDITION;
    if (words.size)
        (void)err_set(err, code, "the engine says: %.*s", SLICE_FMT(words));
    else
        (void)err_set(err, code, "the engine answers %d", call->status);
}

static void call_over(struct engine_call *call, const struct err *err)
{
    struct engine_answer answer = { call->status, { call->body, call->used } };
    struct err own = {};

    if (call->forgotten) {
        call_free(call);
        return;
    }
    if (call->err.code) /* for which it was taken back */
        own = call->err;
    else if (err)
        own = *err;
    else if (call->status >= 400)
        refused(call, &own);
    else if (call->loads)
        (void)engine_lines_end(&call->lines, &own);
    if (own.code && own.code != ERR_CANCELED && !call->status)
        (void)err_wrap(&own, "the engine cannot be asked");
    call->on_done(call->status ? &answer : NULL, own.code ? &own : NULL, call->data);
    call_free(call);
}

static void on_done(struct http_call *http, const struct err *err, void *data)
{
    struct engine_call *call = data;
    (void)http;
    call->http = NULL;
    if (call->reading) { /* the thread has its memory */
        call->over = true;
        call->over_err = err ? *err : (struct err){};
        return;
    }
    call_over(call, err);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void on_head(struct http_call *http, const struct http_response *response, void *data)
{
    struct engine_call *call = data;
    (void)http;
    call->status = response->status;
}

static void collect(struct engine_call *call, struct slice bytes)
{
    if (call->used + bytes.size > ENGINE_ANSWER_BYTES_MAX) {
        (void)err_set(&call->err, ERR_TOO_LARGE, "the engine's answer is above %d MiB",
                      ENGINE_ANSWER_BYTES_MAX >> 20);
        http_call_cancel(call->http);
        return;
    }
    if (call->used + bytes.size > call->room) {
        size_t room = call->room ? call->room : 4096;
        while (room < call->used + bytes.size)
            room *= 2;
        call->body = mem_move_wiped(call->body, call->used, room);
        call->room = room;
    }
    memcpy(call->body + call->used, bytes.data, bytes.size);
    call->used += bytes.size;
}

static void on_body(struct http_call *http, struct slice bytes, void *data)
{
    struct engine_call *call = data;
    if (call->err.code || call->forgotten)
        return;
    if (call->status >= 400)
        collect(call, bytes);
    else if (call->on_bytes)
        call->on_bytes(bytes, call->data);
    else if (!call->loads)
        collect(call, bytes);
    else if (engine_lines_feed(&call->lines, bytes, &call->err) < 0)
        http_call_cancel(http);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static const struct http_call_events events = { on_head, on_body, on_done };
static const char *const methods[] = { "GET", "POST", "DELETE" };

static struct engine_call *call_new(struct engine *engine, bool with_body, engine_cb done,
                                    void *data)
{
    struct engine_call *call = mem_zalloc(sizeof *call);
    call->engine = engine;
    call->arena = with_body ? arena_new_secret() : arena_new(); /* it may hold an environment */
    call->on_done = done;
    call->data = data;
    return call;
}

static void call_send(struct engine_call *call, const char *method, const char *target,
                      struct slice json, bool streamed, int64_t timeout_ms)
{
    static const struct http_header headers[] = { { SLICE("Content-Type"),
                                                    SLICE("application/json") } };
    static const struct http_header archive[] = { { SLICE("Content-Type"),
                                                    SLICE("application/x-tar") } };
    struct http_request_spec spec = {
        .address = &call->engine->address,
        .authority = SLICE("engine"),
        .method = method,
        .target = slice_of(arena_format(call->arena, "%s%s", call->engine->prefix, target)),
        .headers = streamed ? archive : headers,
        .header_count = streamed || json.size ? 1 : 0,
        .body = arena_copy(call->arena, json),
        .streamed = streamed,
        .content_length = HTTP_LENGTH_UNKNOWN,
        .timeout_ms = timeout_ms,
    };
    call->http = http_client_call(call->engine->client, &spec, &events, call);
}

struct engine_call *engine_ask(struct engine *engine, enum engine_method method, const char *target,
                               struct slice json, int64_t timeout_ms, engine_cb done, void *data)
{
    struct engine_call *call = call_new(engine, json.size > 0, done, data);
    call_send(call, methods[method], target, json, false, timeout_ms);
    return call;
}

struct engine_call *engine_follow(struct engine *engine, enum engine_method method,
                                  const char *target, struct slice json, int64_t timeout_ms,
                                  engine_bytes_cb on_bytes, engine_cb done, void *data)
{
    struct engine_call *call = call_new(engine, json.size > 0, done, data);
    call->on_bytes = on_bytes;
    call_send(call, methods[method], target, json, false, timeout_ms);
    return call;
}

void engine_cancel(struct engine_call *call)
{
    if (call->http)
        http_call_cancel(call->http);
}

void engine_forget(struct engine_call *call)
{
    call->forgotten = true;
    engine_cancel(call);
}

/* ---- loading an image ------------------------------------------------------------------------ */

static void load_next(struct engine_call *call);

static void load_fail(struct engine_call *call, const char *what)
{
    if (!call->err.code)
        (void)err_set(&call->err, ERR_INTERNAL, "a layer cannot be read: %s", what);
    http_call_cancel(call->http);
}

static void on_written(struct http_call *http, const struct err *err, void *data)
{
    (void)http;
    if (!err) /* else on_done follows */
        load_next(data);
}

static void load_send(struct engine_call *call, const void *bytes, size_t size)
{
    struct iovec iovec = { (void *)bytes, size };
    http_call_write(call->http, &iovec, 1, on_written, call);
}

static void read_run(struct work *work)
{
    struct engine_call *call =
        (struct engine_call *)((char *)work - offsetof(struct engine_call, work));
    ssize_t got =
        pread(call->pieces[call->piece].fd, call->chunk, call->chunk_bytes, (off_t)call->at);
    call->read_errno = got == (ssize_t)call->chunk_bytes ? 0 : got < 0 ? errno : EIO;
}

static void on_read(struct work *work, bool canceled)
{
    struct engine_call *call =
        (struct engine_call *)((char *)work - offsetof(struct engine_call, work));
    call->reading = false;
    if (call->over) { /* its end came meanwhile */
        call_over(call, call->over_err.code ? &call->over_err : NULL);
        return;
    }
    if (call->forgotten)
        return;
    if (canceled || call->read_errno) {
        load_fail(call, canceled ? "canceled" : strerror(call->read_errno));
        return;
    }
    call->at += call->chunk_bytes;
    load_send(call, call->chunk, call->chunk_bytes);
}

/* One chunk is under way at a time: what an engine does not take yet waits in the file. */
static void load_next(struct engine_call *call)
{
    for (; call->piece < call->piece_count; call->piece++, call->at = 0) {
        const struct engine_piece *piece = &call->pieces[call->piece];
        if (piece->bytes.size) {
            call->piece++;
            call->at = 0;
            load_send(call, piece->bytes.data, piece->bytes.size);
            return;
        }
        if (call->at < piece->size) {
            uint64_t left = piece->size - call->at;
            call->chunk_bytes = left < CHUNK ? (size_t)left : CHUNK;
            call->reading = true;
            work_submit(call->engine->pool, call->engine->loop, &call->work);
            return;
        }
    }
    http_call_end(call->http);
}

struct engine_call *engine_load(struct engine *engine, const struct engine_piece *pieces,
                                size_t count, int64_t timeout_ms, engine_cb done, void *data)
{
    struct engine_call *call = call_new(engine, false, done, data);
    struct engine_piece *copy = ARENA_ARRAY(call->arena, struct engine_piece, count ? count : 1);
    for (size_t i = 0; i < count; i++) {
        copy[i] = pieces[i];
        copy[i].bytes = arena_copy(call->arena, pieces[i].bytes);
    }
    call->loads = true;
    call->pieces = copy;
    call->piece_count = count;
    call->chunk = mem_alloc(CHUNK);
    call->work.run = read_run;
    call->work.on_done = on_read;
    call_send(call, "POST", "/images/load", (struct slice){}, true, timeout_ms);
    load_next(call);
    return call;
}
