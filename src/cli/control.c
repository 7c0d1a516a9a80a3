/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the command line reaches control: --control, $PERIGEE_CONTROL, the context in use, or the
 * home's addresses.json.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/context.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "proto/http.h"
#include "proto/sse.h"
#include "sys/env_linux.h"

enum {
    CONTROL_TIMEOUT_MS = 30'000,
    ADDRESSES_BYTES_MAX = 64 * 1024,
    HEADERS_MAX = 6,
    WATCH_SILENT_MS = 30'000, /* control says that it lives every 5 s */
    WATCH_LOST_MS = 60'000,
};

/* ---- where it is ----------------------------------------------------------------------------- */

int control_address(struct cli *cli, const char *kind, const char **ret, struct err *err)
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

int control_check_url(const char *where, struct err *err)
{
    if ((strncmp(where, "unix:", 5) == 0 && where[5]) || strncmp(where, "http://", 7) == 0 ||
        strncmp(where, "https://", 8) == 0)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "--control wants http://HOST:PORT or unix:PATH, not '%s'",
                   ERR_TEXT(where));
}

int control_named(struct cli *cli, const char **ret, struct err *err)
{
    const char *where = cli_option_value(cli, "--control");
    if (!where)
        where = getenv("PERIGEE_CONTROL");
    if (!where || !where[0])
        return context_control(cli, ret, err);
    *ret = where;
    return 1;
}

static int control_open(struct cli *cli, struct err *err)
{
    const char *where;
    if (cli->control_url)
        return 0;
    int r = control_named(cli, &where, err);
    if (r == 0) {
        r = control_address(cli, "control", &where, err);
        if (r < 0)
            return r;
        if (strncmp(where, "unix:", 5) != 0)
            where = arena_format(cli->arena, "http://%s", where);
    }
    if (r < 0)
        return r;
    if (control_check_url(where, err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    if (strncmp(where, "unix:", 5) == 0) {
        cli->control_unix = where + 5;
        cli->control_url = "http://localhost";
    } else {
        size_t size = strlen(where);
        while (size && where[size - 1] == '/')
            size--;
        cli->control_url = arena_string(cli->arena, (struct slice){ where, size });
    }
    return 0;
}

int control_gateway_url(struct cli *cli, const char **ret, struct err *err)
{
    const char *where;
    int r = control_address(cli, "gateway", &where, err);
    if (r < 0)
        return r;
    if (strncmp(where, "unix:", 5) == 0)
        return err_set(err, ERR_NOT_SUPPORTED, "the gateway listens on a Unix socket alone (%s)",
                       where);
    *ret = arena_format(cli->arena, "http://%s", where);
    return 0;
}

const char *control_escape(struct cli *cli, const char *text)
{
    return http_percent_encode(cli->arena, slice_of(text)).data;
}

const char *control_project_path(struct cli *cli, const char *rest)
{
    if (strcmp(cli->project, "default") == 0)
        return arena_format(cli->arena, "/api/v1%s", rest);
    return arena_format(cli->arena, "/api/v1/projects/%s%s", cli->project, rest);
}

const char *control_endpoint_path(struct cli *cli, const char *name, const char *rest)
{
    return control_project_path(
        cli, arena_format(cli->arena, "/endpoints/%s%s", control_escape(cli, name), rest));
}

/* ---- calls ----------------------------------------------------------------------------------- */

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
    *ret = (struct control_answer){};
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
        .idle_ms = request->idle_ms,
        .on_body = request->on_body,
        .on_progress = request->on_progress,
        .data = request->data,
    };
    struct fetch_answer answer;
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

int control_show(struct cli *cli, const struct control_request *request,
                 void (*print)(struct cli *cli, yyjson_val *json), struct err *err)
{
    struct control_answer answer;
    int r = control_call(cli, request, &answer, err);
    if (r < 0)
        return r;
    if (cli->json)
        cli_print_json(cli, answer.json);
    else
        print(cli, answer.json);
    return 0;
}

int control_delete(struct cli *cli, const char *question, const char *path,
                   struct control_answer *ret, struct err *err)
{
    int r = cli_confirm(cli, question, err);
    return r < 0 ? r
                 : control_call(cli, &CONTROL_REQUEST(.method = "DELETE", .path = path), ret, err);
}

/* ---- watches: server-sent events ------------------------------------------------------------ */

struct watch {
    struct cli *cli;
    bool (*on_event)(struct slice kind, struct slice id, yyjson_val *json, void *data);
    void *data;
    struct sse sse;
    int64_t heard_ns;
};

static bool on_sse_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct watch *watch = data;
    struct arena *arena = arena_new(); /* one for each: --follow may go on for days */
    yyjson_val *json;
    struct err ignored;
    bool more = json_parse(arena, text, NULL, &json, &ignored) < 0 ||
                watch->on_event(kind, id, json, watch->data);
    arena_free(arena);
    return more;
}

static bool on_sse_bytes(struct slice bytes, void *data)
{
    struct watch *watch = data;
    watch->heard_ns = loop_now_ns();
    return sse_feed(&watch->sse, bytes);
}

/* One connection, until it ends. */
static int watch_once(struct watch *watch, const char *path, int64_t left_ms, struct err *err)
{
    struct cli inner = *watch->cli; /* with an arena that does not grow with every attempt */
    struct control_answer answer;
    inner.arena = arena_new();
    const char *id = watch->sse.last_id;
    struct control_request request =
        CONTROL_REQUEST(.method = "GET", .path = path, .timeout_ms = left_ms,
                        .on_body = on_sse_bytes, .data = watch, .idle_ms = WATCH_SILENT_MS,
                        .header =
                            id[0] ? arena_format(inner.arena, "Last-Event-ID: %s", id) : NULL);
    sse_again(&watch->sse);
    int r = control_call(&inner, &request, &answer, err);
    arena_free(inner.arena);
    return r;
}

/* Is it worth trying again? What control said of the request is final; a lost line is not. */
static bool watch_lost(int r, bool began)
{
    return began && (r == 0 || r == ERR_OVERLOADED || r == ERR_INTERNAL || r == ERR_DEADLINE);
}

int control_watch(struct cli *cli, const char *path, int64_t timeout_ms,
                  bool (*on_event)(struct slice kind, struct slice id, yyjson_val *json,
                                   void *data),
                  void *data, struct err *err)
{
    struct watch watch = { .cli = cli, .on_event = on_event, .data = data };
    watch.sse = (struct sse){ .on_event = on_sse_event, .data = &watch };
    int64_t begin_ns = loop_now_ns(), pause_ms = 0;
    int r = control_open(cli, err);
    while (r == 0) {
        int64_t now_ns = loop_now_ns();
        int64_t left_ms = timeout_ms ? timeout_ms - (now_ns - begin_ns) / 1'000'000 : -1;
        if (timeout_ms && left_ms <= 0) {
            r = err_set(err, ERR_DEADLINE, "not within %" PRId64 " s", timeout_ms / 1000);
            break;
        }
        int64_t heard_ns = watch.heard_ns;
        r = watch_once(&watch, path, left_ms, err);
        if (watch.sse.ended)
            r = 0;
        if (watch.sse.too_large)
            r = err_set(err, ERR_TOO_LARGE, "an event of control is larger than %u MiB",
                        SSE_EVENT_BYTES_MAX >> 20);
        if (watch.sse.ended || watch.sse.too_large || !watch_lost(r, watch.heard_ns != 0) ||
            (r < 0 && loop_now_ns() - watch.heard_ns > WATCH_LOST_MS * INT64_C(1'000'000)))
            break;
        r = 0;
        /* At once after a line that lived; else slower and slower. */
        pause_ms = watch.heard_ns != heard_ns ? 50 : pause_ms < 1000 ? pause_ms * 2 : 1000;
        if (timeout_ms && pause_ms > left_ms)
            pause_ms = left_ms;
        (void)poll(NULL, 0, (int)pause_ms);
    }
    sse_deinit(&watch.sse);
    return r;
}
