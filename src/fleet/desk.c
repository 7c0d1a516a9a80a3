/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/desk.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "http/server.h"
#include "spec/units.h"

enum { BODY_BYTES_MAX = 4096 };

struct desk {
    struct http_server *server;
    struct relay *relay;
    const struct fleet *fleet;
    struct desk_events events;
    void *data;
};

struct call {
    struct desk *desk;
    const struct order *order;
    char body[BODY_BYTES_MAX];
    size_t bytes;
};

/* What a POST asks for; places that were not named are FLEET_PLACE_NONE. */
struct wish {
    uint16_t place, other;
    uint32_t rtt_us;
};

static void answer(struct exchange *x, int status, const char *type, struct slice body)
{
    struct http_header header = HTTP_HEADER("Content-Type", slice_of(type));
    exchange_reply(x, status, &header, 1, body);
}

static void answer_err(struct exchange *x, const struct err *err)
{
    struct json_writer w;
    json_begin(&w, exchange_arena(x), 0);
    json_object_begin(&w);
    json_member_text(
        &w, "type",
        arena_format(exchange_arena(x), "urn:perigee:error:%s", err_info(err->code)->name));
    json_member_i64(&w, "status", err_http(err));
    json_member_text(&w, "detail", err->message);
    json_object_end(&w);
    answer(x, err_http(err), "application/problem+json", json_end(&w));
}

/* ---- how it is ------------------------------------------------------------------------------ */

/* Blocks of the clients that stand there. */
static void write_clients(struct json_writer *w, const struct fleet *fleet, size_t place)
{
    char text[IP_TEXT_BYTES];
    json_key(w, "clients");
    json_array_begin(w);
    for (size_t i = 0; i < fleet->client_count; i++)
        if (fleet->clients[i].place == place)
            json_text(w, ip_block_text(&fleet->clients[i].block, text));
    json_array_end(w);
}

static void write_places(struct json_writer *w, const struct desk *desk)
{
    const struct fleet *fleet = desk->fleet;
    json_key(w, "places");
    json_array_begin(w);
    for (size_t i = 0; i < fleet->place_count; i++) {
        const struct fleet_place *place = &fleet->places[i];
        char country[3], text[IP_TEXT_BYTES];
        country_code_of(place->country, country);
        json_object_begin(w);
        json_member_string(w, "name", place->name);
        json_member_text(w, "country", country);
        json_member_double(w, "latitude", place->latitude);
        json_member_double(w, "longitude", place->longitude);
        json_member_bool(w, "pop", i < fleet->pop_count);
        write_clients(w, fleet, i);
        if (i < fleet->pop_count) {
            struct desk_pop pop = desk->events.pop(i, desk->data);
            struct ip face = fleet_face(i);
            json_member_text(w, "state", pop.state);
            json_member_text(w, "face", ip_text(&face, text));
            json_member_string(w, "address", pop.address);
        }
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_link(struct json_writer *w, const struct desk *desk, size_t place, size_t pop)
{
    const struct fleet *fleet = desk->fleet;
    struct relay_link_state state = relay_link_state(desk->relay, place, pop);
    json_object_begin(w);
    json_member_string(w, "from", fleet->places[place].name);
    json_member_string(w, "to", fleet->pops[pop].name);
    json_member_u64(w, "rtt_us", state.link.rtt_us);
    json_member_u64(w, "slowed_us", state.slowed_us);
    json_member_u64(w, "jitter_us", state.link.jitter_us);
    json_member_u64(w, "bandwidth", state.link.bandwidth);
    json_member_u64(w, "loss_ppm", state.link.loss_ppm);
    json_member_bool(w, "cut", state.link.outage);
    json_member_u64(w, "connections", state.connections);
    json_member_u64(w, "bytes", state.bytes);
    json_member_u64(w, "stalls", state.stalls);
    json_object_end(w);
}

static void status(struct desk *desk, struct exchange *x)
{
    const struct fleet *fleet = desk->fleet;
    struct relay_stats stats = relay_stats(desk->relay);
    struct json_writer w;
    json_begin(&w, exchange_arena(x), 0);
    json_object_begin(&w);
    write_places(&w, desk);
    json_key(&w, "links");
    json_array_begin(&w);
    for (size_t place = 0; place < fleet->place_count; place++)
        for (size_t pop = 0; pop < fleet->pop_count; pop++)
            if (place != pop)
                write_link(&w, desk, place, pop);
    json_array_end(&w);
    json_member_u64(&w, "connections", stats.open);
    json_member_u64(&w, "connections_cut", stats.cut);
    json_member_u64(&w, "connections_total", stats.accepted);
    json_member_u64(&w, "connections_refused", stats.refused);
    json_member_u64(&w, "bytes_under_way", stats.held_bytes);
    json_object_end(&w);
    answer(x, 200, "application/json", json_end(&w));
}

/* ---- what is asked for ---------------------------------------------------------------------- */

static int need_place(const struct wish *wish, struct err *err)
{
    return wish->place == FLEET_PLACE_NONE ? err_set(err, ERR_BAD_INPUT, "'place' is missing") : 0;
}

static int order_cut(struct desk *desk, const struct wish *wish, struct err *err)
{
    int r = need_place(wish, err);
    return r < 0 ? r : relay_cut(desk->relay, wish->place, wish->other, err);
}

static int order_slow(struct desk *desk, const struct wish *wish, struct err *err)
{
    int r = need_place(wish, err);
    if (r == 0 && wish->rtt_us == 0)
        r = err_set(err, ERR_BAD_INPUT, "'rtt' is missing: how much longer, as in 200ms");
    return r < 0 ? r : relay_slow(desk->relay, wish->place, wish->other, wish->rtt_us, err);
}

/* A killed PoP is healed by its own name, or with everything. */
static int order_heal(struct desk *desk, const struct wish *wish, struct err *err)
{
    int r = relay_heal(desk->relay, wish->place, wish->other, err);
    for (size_t pop = 0; pop < desk->fleet->pop_count && r == 0; pop++) {
        bool meant = wish->place == FLEET_PLACE_NONE ||
                     (wish->place == pop && wish->other == FLEET_PLACE_NONE);
        if (!meant || !relay_killed(desk->relay, pop))
            continue;
        r = relay_revive(desk->relay, pop, err);
        if (r == 0)
            desk->events.on_revive(pop, desk->data);
    }
    return r;
}

static int order_kill(struct desk *desk, const struct wish *wish, struct err *err)
{
    int r = need_place(wish, err);
    if (r == 0 && wish->place >= desk->fleet->pop_count)
        r = err_set(err, ERR_BAD_INPUT, "'%s' is no PoP",
                    ERR_SLICE(desk->fleet->places[wish->place].name));
    if (r < 0)
        return r;
    relay_kill(desk->relay, wish->place);
    desk->events.on_kill(wish->place, desk->data);
    return 0;
}

static const struct order {
    const char *path;
    int (*run)(struct desk *desk, const struct wish *wish, struct err *err);
} orders[] = {
    { "/api/v1/fleet/cut", order_cut },
    { "/api/v1/fleet/slow", order_slow },
    { "/api/v1/fleet/heal", order_heal },
    { "/api/v1/fleet/kill", order_kill },
};

static int read_place(const struct desk *desk, yyjson_val *root, const char *key, uint16_t *ret,
                      struct err *err)
{
    struct slice name;
    *ret = FLEET_PLACE_NONE;
    int r = json_get_string(root, key, JSON_OPTIONAL, &name, err);
    return r <= 0 ? r : fleet_place_find(desk->fleet, name, ret, err);
}

static int read_wish(const struct desk *desk, struct arena *arena, struct slice body,
                     struct wish *ret, struct err *err)
{
    static const char *const keys[] = { "place", "other", "rtt", NULL };
    yyjson_val *root;
    struct slice rtt;
    uint64_t ns = 0;
    int r = json_parse(arena, body, NULL, &root, err);
    if (r == 0 && !yyjson_is_obj(root))
        r = err_set(err, ERR_BAD_INPUT, "the body is a JSON object, not %s", json_kind(root));
    if (r == 0)
        r = json_check_keys(root, keys, err);
    if (r == 0)
        r = read_place(desk, root, "place", &ret->place, err);
    if (r == 0)
        r = read_place(desk, root, "other", &ret->other, err);
    if (r < 0)
        return r;
    if (ret->other != FLEET_PLACE_NONE && ret->place == FLEET_PLACE_NONE)
        return err_set(err, ERR_BAD_INPUT, "'other' stands beside 'place'");
    r = json_get_string(root, "rtt", JSON_OPTIONAL, &rtt, err);
    if (r == 1)
        r = units_parse_time(rtt, &ns, err);
    if (r == 0 && ns / 1000 > FLEET_TIME_US_MAX)
        r = err_set(err, ERR_BAD_INPUT, "'rtt' is more than an hour");
    ret->rtt_us = (uint32_t)(ns / 1000);
    return r;
}

/* ---- HTTP ----------------------------------------------------------------------------------- */

static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct call *call = data;
    (void)x;
    *ret_space = (struct iovec){ call->body + call->bytes, sizeof call->body - call->bytes };
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    (void)x;
    ((struct call *)data)->bytes += bytes;
}

static void on_body_end(struct exchange *x, const struct err *failed, void *data)
{
    struct call *call = data;
    struct desk *desk = call->desk;
    struct wish wish = {};
    struct err err;
    if (failed) {
        answer_err(x, failed);
        return;
    }
    struct slice body = { call->body, call->bytes };
    int r = read_wish(desk, exchange_arena(x), body, &wish, &err);
    if (r == 0)
        r = call->order->run(desk, &wish, &err);
    if (r < 0) {
        answer_err(x, &err);
        return;
    }
    log_info("fleet", "a fault, or its end", LOG_S("order", call->order->path),
             LOG_SLICE("asked", body));
    answer(x, 200, "application/json", SLICE("{}"));
}

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    (void)data;
}

static const struct exchange_handler handler = { on_body_space, on_body, on_body_end, on_closed };

static const struct order *order_find(struct slice path)
{
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
        if (slice_is(path, orders[i].path))
            return &orders[i];
    return NULL;
}

static void on_head(struct exchange *x, void *data)
{
    struct desk *desk = data;
    const struct http_request *request = exchange_request(x);
    const struct order *order = order_find(request->path);
    bool read = slice_is(request->path, "/api/v1/fleet");
    struct call *call = ARENA_NEW(exchange_arena(x), struct call);
    struct err err;
    call->desk = desk;
    call->order = order;
    exchange_set_handler(x, &handler, call);
    if (!order && !read) {
        (void)err_set(&err, ERR_NOT_FOUND, "there is nothing of that name here");
        answer_err(x, &err);
    } else if (request->method != (order ? HTTP_POST : HTTP_GET)) {
        exchange_reply_method(x, order ? "POST" : "GET", NULL, 0, (struct slice){});
    } else if (read) {
        status(desk, x);
    } else if (exchange_body_start(x, BODY_BYTES_MAX - 1, &err) < 0) {
        answer_err(x, &err);
    }
}

struct desk *desk_new(struct loop *loop, int fd, struct relay *relay, const struct fleet *fleet,
                      const struct desk_events *events, void *data)
{
    static const struct http_server_events server_events = { .on_head = on_head };
    struct http_server_limits limits = http_server_limits_default();
    struct desk *desk = mem_zalloc(sizeof *desk);
    limits.connections_max = 64;
    desk->relay = relay;
    desk->fleet = fleet;
    desk->events = *events;
    desk->data = data;
    desk->server = http_server_new(loop, &limits, &server_events, desk);
    http_server_listen(desk->server, fd);
    return desk;
}

void desk_free(struct desk *desk)
{
    if (!desk)
        return;
    http_server_free(desk->server);
    free(desk);
}
