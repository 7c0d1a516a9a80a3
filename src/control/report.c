/* SPDX-License-Identifier: Apache-2.0 */
#include "control/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "contract/mesh.h"
#include "policy/route.h"
#include "spec/endpoint.h"
#include "spec/units.h"
#include "store/digest.h"

/* Sums over all PoPs stay far below 64 bits. */
#define REQUESTS_MAX (UINT64_C(1) << 48)
#define RTT_SUM_MAX (UINT64_C(1) << 52)
#define RTT_US_MAX UINT64_C(600'000'000) /* of one round trip */

static struct slice cut(struct slice text, size_t bytes_max)
{
    if (text.size <= bytes_max)
        return text;
    text.size = bytes_max;
    while (text.size && !utf8_valid(text) && bytes_max - text.size < 4)
        text.size--;
    return text;
}

static struct slice text_of(yyjson_val *object, const char *key)
{
    return cut(json_slice(json_member(object, key)), REPORT_WORDS_BYTES_MAX);
}

static struct slice name_of(yyjson_val *object, const char *key)
{
    return cut(json_slice(json_member(object, key)), REPORT_NAME_BYTES_MAX);
}

static uint64_t number_of(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_uint(value) && yyjson_get_uint(value) <= INT64_MAX ? yyjson_get_uint(value)
                                                                        : 0;
}

static int64_t at_of(yyjson_val *object, int64_t now_ns)
{
    int64_t at = now_ns;
    (void)units_parse_instant(json_slice(json_member(object, "at")), &at);
    return at;
}

/* ---- its lists ------------------------------------------------------------------------------ */

static int list_of(yyjson_val *root, const char *key, yyjson_val **ret, size_t *ret_count,
                   struct err *err)
{
    *ret = NULL;
    *ret_count = 0;
    int r = json_get_array(root, key, JSON_OPTIONAL, ret, err);
    if (r < 0)
        return r;
    *ret_count = r > 0 ? yyjson_arr_size(*ret) : 0;
    if (*ret_count > REPORT_ITEMS_MAX)
        return err_set(err, ERR_TOO_LARGE, "'%s' has more than %d items", key,
                       (int)REPORT_ITEMS_MAX);
    return 0;
}

static void read_replica(struct arena *arena, yyjson_val *item, struct slice pop,
                         struct hub_replica *ret)
{
    static const char *const names[] = { "id", "name", "endpoint", "project", "state", "since" };
    static const char *const texts[] = { "sandbox", "message" };
    static const char *const numbers[] = { "revision", "pid", "restarts", "memory_bytes" };
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        json_member_string(&w, names[i], name_of(item, names[i]));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        json_member_string(&w, texts[i], text_of(item, texts[i]));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_member_u64(&w, numbers[i], number_of(item, numbers[i]));
    json_member_string(&w, "pop", pop);
    json_member_u64(&w, "endpoint_uid", number_of(item, "endpoint_uid"));
    json_object_end(&w);
    *ret = (struct hub_replica){
        .endpoint_uid = number_of(item, "endpoint_uid"),
        .revision = number_of(item, "revision"),
        .name = arena_copy(arena, name_of(item, "name")),
        .state = arena_copy(arena, name_of(item, "state")),
        .message = arena_copy(arena, text_of(item, "message")),
        .view = json_end(&w),
    };
}

static struct slice lines_json(struct arena *arena, yyjson_val *lines)
{
    enum { LINES_MAX = 200 };
    struct json_writer w;
    size_t index, count;
    yyjson_val *line;
    json_begin(&w, arena, 0);
    json_array_begin(&w);
    yyjson_arr_foreach(lines, index, count, line)
    {
        if (index + LINES_MAX >= count)
            json_string(&w, cut(json_slice(line), REPORT_LINE_BYTES_MAX));
    }
    json_array_end(&w);
    return json_end(&w);
}

static void read_event(yyjson_val *item, struct slice pop, int64_t now_ns, struct report_item *ret)
{
    ret->kind = REPORT_EVENT;
    ret->event = (struct store_event){
        .endpoint_uid = number_of(item, "endpoint_uid"),
        .at_ns = at_of(item, now_ns),
        .kind = name_of(item, "kind"),
        .pop = pop,
        .replica = name_of(item, "replica"),
        .message = text_of(item, "message"),
    };
}

static void read_log(yyjson_val *item, struct slice pop, int64_t now_ns, struct report_item *ret)
{
    struct slice stream = name_of(item, "stream");
    ret->kind = REPORT_LOG;
    ret->log = (struct store_log){
        .endpoint_uid = number_of(item, "endpoint_uid"),
        .at_ns = at_of(item, now_ns),
        .pop = pop,
        .replica = name_of(item, "replica"),
        .stream = stream.size ? stream : SLICE("stderr"),
        .line = cut(json_slice(json_member(item, "line")), REPORT_LINE_BYTES_MAX),
    };
}

static int by_seq(const void *a, const void *b)
{
    const struct report_item *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static int read_items(struct arena *arena, yyjson_val *root, struct slice pop, int64_t now_ns,
                      struct report *ret, struct err *err)
{
    static const char *const keys[] = { "events", "deaths", "logs" };
    yyjson_val *lists[3], *item;
    size_t counts[3], index, count, all = 0;
    for (size_t i = 0; i < 3; i++) {
        int r = list_of(root, keys[i], &lists[i], &counts[i], err);
        if (r < 0)
            return r;
        all += counts[i];
    }
    ret->items = ARENA_ARRAY(arena, struct report_item, all + 1);
    for (size_t i = 0; i < 3; i++) {
        yyjson_arr_foreach(lists[i], index, count, item)
        {
            struct report_item *to = &ret->items[ret->item_count++];
            to->seq = number_of(item, "seq");
            if (i == 0) {
                read_event(item, pop, now_ns, to);
            } else if (i == 2) {
                read_log(item, pop, now_ns, to);
            } else {
                to->kind = REPORT_DEATH;
                to->death = (struct store_death){
                    .endpoint_uid = number_of(item, "endpoint_uid"),
                    .revision = number_of(item, "revision"),
                    .at_ns = at_of(item, now_ns),
                    .replica = name_of(item, "replica"),
                    .reason = text_of(item, "reason"),
                    .log = lines_json(arena, json_member(item, "log")),
                };
            }
        }
    }
    qsort(ret->items, ret->item_count, sizeof *ret->items, by_seq);
    return 0;
}

static void read_scale(struct arena *arena, yyjson_val *scale, struct report_endpoint *ret)
{
    if (!yyjson_is_obj(scale))
        return;
    ret->scaled = true;
    ret->desired = number_of(scale, "replicas");
    ret->scale_reason = arena_copy(arena, text_of(scale, "reason"));
    ret->scale_text = arena_copy(arena, text_of(scale, "text"));
}

static int read_state(struct arena *arena, yyjson_val *root, struct slice pop, struct report *ret,
                      struct err *err)
{
    yyjson_val *replicas, *endpoints, *models, *item;
    size_t index, count;
    int r = list_of(root, "replicas", &replicas, &ret->replica_count, err);
    if (r < 0 || (r = list_of(root, "endpoints", &endpoints, &ret->endpoint_count, err)) < 0 ||
        (r = list_of(root, "models", &models, &ret->model_count, err)) < 0)
        return r;
    ret->replicas = ARENA_ARRAY(arena, struct hub_replica, ret->replica_count + 1);
    ret->endpoints = ARENA_ARRAY(arena, struct report_endpoint, ret->endpoint_count + 1);
    ret->models = ARENA_ARRAY(arena, struct report_model, ret->model_count + 1);
    yyjson_arr_foreach(replicas, index, count, item)
    {
        read_replica(arena, item, pop, &ret->replicas[index]);
    }
    yyjson_arr_foreach(endpoints, index, count, item)
    {
        struct slice state = text_of(item, "target_state");
        if (!slice_is(state, "starting") && !slice_is(state, "ready") && !slice_is(state, "failed"))
            return err_set(err, ERR_BAD_INPUT, "endpoints: target_state '%s' is unknown",
                           ERR_SLICE(state));
        ret->endpoints[index] = (struct report_endpoint){
            .uid = number_of(item, "uid"),
            .serving = number_of(item, "serving"),
            .target = number_of(item, "target"),
            .target_state = arena_copy(arena, state),
            .message = arena_copy(arena, text_of(item, "message")),
            .generation = number_of(item, "generation"),
            .governed = json_member(item, "generation") != NULL,
            .lines_kept = number_of(item, "lines_kept"),
        };
        read_scale(arena, json_member(item, "scale"), &ret->endpoints[index]);
    }
    yyjson_arr_foreach(models, index, count, item)
    {
        uint64_t uid = number_of(item, "revision_uid");
        ret->models[index] = (struct report_model){
            .endpoint_uid = uid >> STORE_REVISION_BITS,
            .number = uid & ((UINT64_C(1) << STORE_REVISION_BITS) - 1),
            .metadata = report_model_json(arena, item),
        };
    }
    return 0;
}

static int by_pop(const void *a, const void *b)
{
    return slice_order(((const struct hub_peer *)a)->pop, ((const struct hub_peer *)b)->pop);
}

static int read_peer(struct arena *arena, yyjson_val *item, struct hub_peer *ret, struct err *err)
{
    struct slice name = text_of(item, "pop"), health = text_of(item, "health");
    if (spec_check_name(name, "PoP", err) < 0)
        return err_wrap(err, "peers");
    if (!slice_is(health, "up") && !slice_is(health, "draining") && !slice_is(health, "down"))
        return err_set(err, ERR_BAD_INPUT, "peers: health '%s' is unknown", ERR_SLICE(health));
    bool down = slice_is(health, "down");
    *ret = (struct hub_peer){
        .pop = arena_copy(arena, name),
        .word = { .health = down                           ? ROUTE_DOWN
                            : slice_is(health, "draining") ? ROUTE_DRAINING
                                                           : ROUTE_UP,
                  .elsewhere = down && yyjson_is_true(json_member(item, "elsewhere")) },
    };
    return 0;
}

static void write_peer(struct json_writer *w, yyjson_val *item, const struct hub_peer *peer)
{
    static const double rtt_ms_max = 600'000;
    double rtt_ms = yyjson_get_num(json_member(item, "rtt_ms"));
    json_object_begin(w);
    json_member_string(w, "pop", peer->pop);
    json_member_string(w, "health", text_of(item, "health"));
    json_member_bool(w, "elsewhere", peer->word.elsewhere);
    json_member_double_or_null(w, "rtt_ms", rtt_ms > 0 && rtt_ms <= rtt_ms_max, rtt_ms);
    json_object_end(w);
}

/* How it reaches others: words and bounds of ours alone. Of one named twice one word counts. */
static int read_peers(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *peers, *item;
    size_t index, count, kept = 0;
    struct json_writer w;
    int r = list_of(root, "peers", &peers, &count, err);
    if (r < 0 || !peers)
        return r;
    if (count > REPORT_PEERS_MAX)
        return err_set(err, ERR_TOO_LARGE, "'peers' has more than %d items", (int)REPORT_PEERS_MAX);
    struct hub_peer *list = ARENA_ARRAY(arena, struct hub_peer, count + 1);
    json_begin(&w, arena, 0);
    json_array_begin(&w);
    yyjson_arr_foreach(peers, index, count, item)
    {
        r = read_peer(arena, item, &list[index], err);
        if (r < 0)
            return r;
        write_peer(&w, item, &list[index]);
    }
    json_array_end(&w);
    ret->peers = json_end(&w);
    qsort(list, count, sizeof *list, by_pop);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || by_pop(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    ret->peer_list = list;
    ret->peer_count = kept;
    return 0;
}

/* A figure within its bound; null: INFINITY, there is no end to it. */
static float figure_of(yyjson_val *item, const char *key, float most)
{
    yyjson_val *value = json_member(item, key);
    double number = yyjson_get_num(value);
    if (yyjson_is_null(value))
        return INFINITY;
    return number > 0 ? (float)(number < (double)most ? number : (double)most) : 0;
}

/* How its endpoints do there. */
static int read_loads(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *loads, *item;
    size_t index, count;
    int r = list_of(root, "loads", &loads, &count, err);
    if (r < 0)
        return r;
    if (count > REPORT_LOADS_MAX)
        return err_set(err, ERR_TOO_LARGE, "'loads' has more than %d items", (int)REPORT_LOADS_MAX);
    if (!loads)
        return 0;
    struct map seen = {};
    ret->loads_told = true;
    ret->loads = ARENA_ARRAY(arena, struct hub_load, count + 1);
    yyjson_arr_foreach(loads, index, count, item)
    {
        float weight = figure_of(item, "weight", MESH_WEIGHT_MAX);
        float last_start_ms = figure_of(item, "last_start_ms", MESH_MS_MAX);
        if (map_put_u64(&seen, number_of(item, "endpoint_uid"), item))
            continue; /* the first word counts */
        ret->loads[ret->load_count++] = (struct hub_load){
            .endpoint_uid = number_of(item, "endpoint_uid"),
            .wait_ms = figure_of(item, "wait_ms", MESH_MS_MAX),
            .service_ms = figure_of(item, "service_ms", MESH_MS_MAX),
            .start_ms = figure_of(item, "start_ms", MESH_MS_MAX),
            .weight = weight < MESH_WEIGHT_MAX ? weight : MESH_WEIGHT_MAX,
            .last_start_ms = last_start_ms < INFINITY ? last_start_ms : 0,
        };
    }
    map_deinit(&seen);
    return 0;
}

static bool country_right(struct slice text)
{
    return country_number_of(text) != COUNTRY_UNKNOWN || slice_is(text, "unknown") ||
           slice_is(text, "other");
}

/* In the arena, as keys of maps are borrowed. */
static struct slice clients_key(struct arena *arena, const struct hub_clients *row)
{
    return slice_of(
        arena_format(arena, "%llu %s", (unsigned long long)row->endpoint_uid, row->country));
}

/* What contradicts itself is left out, and what is said twice. */
static int read_clients(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *clients, *item;
    size_t index, count;
    int r = list_of(root, "clients", &clients, &count, err);
    if (r < 0)
        return r;
    if (count > REPORT_CLIENTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "'clients' has more than %d items",
                       (int)REPORT_CLIENTS_MAX);
    struct map seen = {};
    ret->clients = ARENA_ARRAY(arena, struct hub_clients, count + 1);
    yyjson_arr_foreach(clients, index, count, item)
    {
        struct slice country = name_of(item, "country");
        struct hub_clients row = {
            .endpoint_uid = number_of(item, "endpoint_uid"),
            .requests = number_of(item, "requests"),
            .near = number_of(item, "near"),
            .rtt_us = number_of(item, "rtt_us"),
        };
        if (!country_right(country) || row.near > row.requests || row.requests > REQUESTS_MAX ||
            row.rtt_us > RTT_SUM_MAX || row.rtt_us / RTT_US_MAX > row.requests)
            continue;
        memcpy(row.country, country.data, country.size);
        if (!map_put(&seen, clients_key(arena, &row), item))
            ret->clients[ret->client_count++] = row;
    }
    map_deinit(&seen);
    return 0;
}

int report_parse(struct arena *arena, struct slice text, struct slice pop, int64_t now_ns,
                 struct report *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = 16 << 20 };
    yyjson_val *root;
    struct report report = {};
    int r = json_parse(arena, text, &limits, &root, err);
    if (r == 0 && !yyjson_is_obj(root))
        r = err_set(err, ERR_BAD_INPUT, "a report must be an object");
    if (r < 0)
        return r;
    report.instance = number_of(root, "instance");
    report.sequence = number_of(root, "sequence");
    report.sets = arena_copy(arena, name_of(root, "sets"));
    if (digest_check(report.sets, NULL) < 0)
        report.sets = (struct slice){};
    uint64_t port = number_of(root, "gateway_port");
    report.gateway_port = port <= UINT16_MAX ? (uint16_t)port : 0;
    r = read_peers(arena, root, &report, err);
    if (r == 0)
        r = read_loads(arena, root, &report, err);
    if (r == 0)
        r = read_clients(arena, root, &report, err);
    if (r == 0)
        r = report_activity_read(arena, root, &report, err);
    if (r == 0)
        r = read_state(arena, root, pop, &report, err);
    if (r == 0)
        r = report_volumes_read(arena, root, &report, err);
    if (r == 0)
        r = report_asked_read(arena, root, &report, err);
    if (r == 0)
        r = read_items(arena, root, pop, now_ns, &report, err);
    if (r == 0)
        *ret = report;
    return r;
}

struct slice report_keep(struct arena *arena, const struct report *report)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    if (report->gateway_port)
        json_member_u64(&w, "gateway_port", report->gateway_port);
    if (report->sets.size)
        json_member_string(&w, "sets", report->sets);
    json_key(&w, "replicas");
    json_array_begin(&w);
    for (size_t i = 0; i < report->replica_count; i++)
        json_raw(&w, report->replicas[i].view);
    json_array_end(&w);
    json_key(&w, "endpoints");
    json_array_begin(&w);
    for (size_t i = 0; i < report->endpoint_count; i++) {
        const struct report_endpoint *endpoint = &report->endpoints[i];
        json_object_begin(&w);
        json_member_u64(&w, "uid", endpoint->uid);
        json_member_u64(&w, "serving", endpoint->serving);
        json_member_u64(&w, "target", endpoint->target);
        if (endpoint->governed)
            json_member_u64(&w, "generation", endpoint->generation);
        json_member_string(&w, "target_state", endpoint->target_state);
        json_member_string(&w, "message", endpoint->message);
        if (endpoint->scaled) {
            json_key(&w, "scale");
            json_object_begin(&w);
            json_member_u64(&w, "replicas", endpoint->desired);
            json_member_string(&w, "reason", endpoint->scale_reason);
            json_member_string(&w, "text", endpoint->scale_text);
            json_object_end(&w);
        }
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

struct report_sum report_sum(const struct report_endpoint *rows, size_t count, uint64_t target)
{
    struct report_sum sum = {};
    for (size_t i = 0; i < count; i++) {
        const struct report_endpoint *row = &rows[i];
        bool current = row->target == 0 || row->target == target;
        /* An older revision that one PoP still serves is said until none does. */
        if (row->serving && (sum.serving == 0 || sum.serving == target))
            sum.serving = row->serving;
        if (!current || slice_is(sum.target_state, "ready"))
            continue;
        if (slice_is(row->target_state, "ready") || sum.target_state.size == 0 ||
            slice_is(row->target_state, "failed")) {
            sum.target_state = row->target_state;
            sum.message = row->message;
        }
    }
    return sum;
}
