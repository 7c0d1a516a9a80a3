/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the command line reaches control: --control, $PERIGEE_CONTROL, or the home's addresses.json.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "sys/env_linux.h"

enum { CONTROL_TIMEOUT_MS = 30'000, ADDRESSES_BYTES_MAX = 64 * 1024, HEADERS_MAX = 6 };

/* ---- where it is --------------------------------------------------------------------------------
 */

static int address_first(struct cli *cli, const char *kind, const char **ret, struct err *err)
{
    const char *path = arena_format(cli->arena, "%s/run/addresses.json", cli->home);
    struct slice bytes;
    yyjson_val *root, *list;
    int r = disk_read(path, ADDRESSES_BYTES_MAX, cli->arena, &bytes, err);
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "no Perigee runs with the home %s; start one with: perigee up", cli->home);
    if (r < 0 || json_parse(cli->arena, bytes, NULL, &root, err) < 0 ||
        json_get_array(root, kind, JSON_REQUIRED, &list, err) < 0)
        return err_wrap(err, "%s", path);
    yyjson_val *first = yyjson_arr_get_first(list);
    if (!yyjson_is_str(first))
        return err_set(err, ERR_NOT_FOUND, "the Perigee of %s has no %s listener", cli->home, kind);
    *ret = arena_string(cli->arena, json_slice(first));
    return 0;
}

static int control_open(struct cli *cli, struct err *err)
{
    const char *where = cli_option_value(cli, "--control");
    if (cli->control_url)
        return 0;
    if (!where)
        where = getenv("PERIGEE_CONTROL");
    if (!where || !where[0]) {
        int r = address_first(cli, "control", &where, err);
        if (r < 0)
            return r;
        if (strncmp(where, "unix:", 5) != 0)
            where = arena_format(cli->arena, "http://%s", where);
    }
    if (strncmp(where, "unix:", 5) == 0) {
        cli->control_unix = where + 5;
        cli->control_url = "http://localhost";
    } else if (strncmp(where, "http://", 7) == 0 || strncmp(where, "https://", 8) == 0) {
        size_t size = strlen(where);
        while (size && where[size - 1] == '/')
            size--;
        cli->control_url = arena_string(cli->arena, (struct slice){ where, size });
    } else {
        return err_set(err, ERR_BAD_INPUT,
                       "--control wants http://HOST:PORT or unix:PATH, not '%s'", ERR_TEXT(where));
    }
    return 0;
}

int control_gateway_url(struct cli *cli, const char **ret, struct err *err)
{
    const char *where;
    int r = address_first(cli, "gateway", &where, err);
    if (r < 0)
        return r;
    if (strncmp(where, "unix:", 5) == 0)
        return err_set(err, ERR_NOT_SUPPORTED, "the gateway listens on a Unix socket alone (%s)",
                       where);
    *ret = arena_format(cli->arena, "http://%s", where);
    return 0;
}

const char *control_endpoint_path(struct cli *cli, const char *name, const char *rest)
{
    /* Names are checked by control; here only what would leave the path is escaped. */
    char *escaped = arena_alloc(cli->arena, strlen(name) * 3 + 1), *at = escaped;
    for (const char *c = name; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || *c == '-' || *c == '_' || *c == '.';
        at += snprintf(at, 4, plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    if (strcmp(cli->project, "default") == 0)
        return arena_format(cli->arena, "/api/v1/endpoints/%s%s", escaped, rest);
    return arena_format(cli->arena, "/api/v1/projects/%s/endpoints/%s%s", cli->project, escaped,
                        rest);
}

/* ---- calls --------------------------------------------------------------------------------------
 */

/* A problem document (RFC 9457) as an err: its name gives the code, its detail the words. */
static int problem(const struct fetch_answer *answer, yyjson_val *json, struct err *err)
{
    struct slice type = {}, detail = {};
    struct err ignored;
    if (json) {
        (void)json_get_string(json, "type", JSON_OPTIONAL, &type, &ignored);
        (void)json_get_string(json, "detail", JSON_OPTIONAL, &detail, &ignored);
    }
    if (detail.size == 0)
        detail =
            answer->body.size && answer->body.size < 400 ? answer->body : SLICE("no reason given");
    enum err_code code = ERR_INTERNAL;
    struct slice name = type;
    while (name.data && memchr(name.data, ':', name.size))
        (void)slice_cut(&name, ':');
    for (int i = 0; i < ERR_COUNT; i++)
        if (slice_is(name, err_info(-1 - i)->name))
            code = -1 - i;
    return err_set(err, code, "%.*s", SLICE_FMT(detail));
}

int control_call(struct cli *cli, const struct control_request *request, struct control_answer *ret,
                 struct err *err)
{
    int r = control_open(cli, err);
    if (r < 0)
        return r;
    const char *headers[HEADERS_MAX] = {};
    size_t count = 0;
    if (request->content_type)
        headers[count++] = arena_format(cli->arena, "Content-Type: %s", request->content_type);
    else if (request->body.data)
        headers[count++] = "Content-Type: application/json";
    if (request->header)
        headers[count++] = request->header;
    headers[count] = NULL;
    struct fetch_request fetch_request = {
        .method = request->method,
        .url = arena_format(cli->arena, "%s%s", cli->control_url, request->path),
        .unix_path = cli->control_unix,
        .headers = headers,
        .body = request->body,
        .body_fd = request->body_fd,
        .body_offset = request->body_offset,
        .body_bytes = request->body_bytes,
        .timeout_ms = request->timeout_ms < 0 ? 0
                      : request->timeout_ms   ? request->timeout_ms
                                              : CONTROL_TIMEOUT_MS,
        .on_body = request->on_body,
        .on_progress = request->on_progress,
        .data = request->data,
    };
    struct fetch_answer answer;
    *ret = (struct control_answer){};
    r = fetch(cli->arena, &fetch_request, &answer, err);
    if (r < 0)
        return err_wrap(err, "control");
    ret->status = answer.status;
    ret->body = answer.body;
    ret->etag = fetch_header_get(&answer, "ETag");
    ret->range = fetch_header_get(&answer, "Range");
    struct err ignored;
    if (answer.body.size && json_parse(cli->arena, answer.body, NULL, &ret->json, &ignored) < 0)
        ret->json = NULL;
    return answer.status >= 400 ? problem(&answer, ret->json, err) : 0;
}

/* ---- watches: server-sent events ----------------------------------------------------------------
 */

struct sse {
    struct cli *cli;
    bool (*on_event)(struct slice kind, struct slice id, yyjson_val *json, void *data);
    void *data;
    char *buffer;
    size_t used, room;
    char last_id[64];
    bool ended;
};

static bool event_take(struct sse *sse, struct slice text)
{
    struct slice kind = SLICE("message"), id = {}, data = {};
    while (text.data) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_starts(line, SLICE("event: ")))
            kind = (struct slice){ line.data + 7, line.size - 7 };
        else if (slice_starts(line, SLICE("data: ")))
            data = (struct slice){ line.data + 6, line.size - 6 };
        else if (slice_starts(line, SLICE("id: ")))
            id = (struct slice){ line.data + 4, line.size - 4 };
    }
    if (id.size && id.size < sizeof sse->last_id)
        snprintf(sse->last_id, sizeof sse->last_id, "%.*s", SLICE_FMT(id));
    if (data.size == 0)
        return true; /* a comment: ping */
    yyjson_val *json = NULL;
    struct err ignored;
    if (json_parse(sse->cli->arena, data, NULL, &json, &ignored) < 0)
        return true;
    return sse->on_event(kind, id, json, sse->data);
}

static bool on_sse(struct slice bytes, void *data)
{
    enum { EVENT_BYTES_MAX = 8 * 1024 * 1024 };
    struct sse *sse = data;
    if (sse->used + bytes.size > EVENT_BYTES_MAX)
        return false;
    if (sse->used + bytes.size > sse->room) {
        sse->room = (sse->used + bytes.size) * 2;
        sse->buffer = mem_resize(sse->buffer, sse->room, 1);
    }
    memcpy(sse->buffer + sse->used, bytes.data, bytes.size);
    sse->used += bytes.size;
    size_t from = 0;
    while (!sse->ended) {
        const char *end = memmem(sse->buffer + from, sse->used - from, "\n\n", 2);
        if (!end)
            break;
        size_t size = (size_t)(end - sse->buffer) - from;
        sse->ended = !event_take(sse, (struct slice){ sse->buffer + from, size });
        from += size + 2;
    }
    memmove(sse->buffer, sse->buffer + from, sse->used - from);
    sse->used -= from;
    return !sse->ended;
}

int control_watch(struct cli *cli, const char *path, int64_t timeout_ms,
                  bool (*on_event)(struct slice kind, struct slice id, yyjson_val *json,
                                   void *data),
                  void *data, struct err *err)
{
    struct sse sse = { .cli = cli, .on_event = on_event, .data = data };
    int64_t deadline = timeout_ms ? loop_now_ns() / 1'000'000 + timeout_ms : INT64_MAX;
    int r = 0;
    while (!sse.ended) {
        int64_t left = deadline == INT64_MAX ? -1 : deadline - loop_now_ns() / 1'000'000;
        if (deadline != INT64_MAX && left <= 0) {
            r = err_set(err, ERR_DEADLINE, "not within %" PRId64 " s", timeout_ms / 1000);
            break;
        }
        sse.used = 0;
        struct control_request request =
            CONTROL_REQUEST(.method = "GET", .path = path, .timeout_ms = left, .on_body = on_sse,
                            .data = &sse,
                            .header = sse.last_id[0] ? arena_format(cli->arena, "Last-Event-ID: %s",
                                                                    sse.last_id)
                                                     : NULL);
        struct control_answer answer;
        r = control_call(cli, &request, &answer, err);
        if (r == ERR_DEADLINE)
            continue; /* said above, in words */
        if (r < 0)
            break;
    }
    free(sse.buffer);
    return r;
}
