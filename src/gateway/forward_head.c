/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which headers go along. All end-to-end ones do (proto/end_to_end.h); those below do not, nor
 * those that Connection names, but for what a request must not lose by it: a client that took
 * Perigee-Process-In out on the way would widen where it is processed.
 */
#include <string.h>

#include "base/arena.h"
#include "gateway/forward_own.h"
#include "gateway/mesh.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "proto/end_to_end.h"
#include "proto/hop.h"

static bool left_out_of_request(struct slice name)
{
    static const struct slice names[] = {
        SLICE("Host"),
        SLICE("Expect"),
        SLICE("X-Request-Id"),
        SLICE(HOP_HEADER),
        SLICE("Perigee-Timeout"), /* what is left of them is in the hop */
        SLICE("grpc-timeout"),
        SLICE("Forwarded"), /* the client's address stays here: its country is enough */
        SLICE("X-Forwarded-For"),
        SLICE("X-Real-IP"),
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_equal_nocase(name, names[i]))
            return true;
    return false;
}

static bool left_out_of_answer(struct slice name)
{
    return slice_equal_nocase(name, SLICE("Date")) ||
           slice_equal_nocase(name, SLICE("Server-Timing")) ||
           slice_equal_nocase(name, SLICE(HOP_HEADER));
}

static bool never_named_away(struct slice name)
{
    static const struct slice starts[] = { SLICE("Perigee-"), SLICE("Content-"),
                                           SLICE("Inference-Header-") };

    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (name.size >= starts[i].size &&
            slice_equal_nocase((struct slice){ name.data, starts[i].size }, starts[i]))
            return true;
    return false;
}

static void add(struct http_headers *headers, struct slice name, struct slice value)
{
    headers->items[headers->count++] = (struct http_header){ name, value };
}

/* ---- the request ---------------------------------------------------------------------------- */

bool forward_upgrades(const struct request *request)
{
    return request->http && proxy_upgrades(exchange_request(request->x));
}

struct slice forward_subject(struct arena *arena, const struct request *request)
{
    if (!request->row)
        return (struct slice){};
    const struct table_head *table = request->table->head;
    return slice_of(arena_format(arena, "%.*s/%.*s",
                                 SLICE_FMT(table_text(table, request->row->project)),
                                 SLICE_FMT(table_text(table, request->row->name))));
}

/* At least 1 ms: what has none left was answered here. */
static uint64_t left_ms(const struct request *request)
{
    if (!request->deadline_ns)
        return 0;
    int64_t left = (request->deadline_ns - loop_now_ns()) / ENV_MS;
    return left < 1                               ? 1
           : (uint64_t)left < HOP_DEADLINE_MS_MAX ? (uint64_t)left
                                                  : HOP_DEADLINE_MS_MAX;
}

/* After the filters: of a connection, and of this one alone. */
static void upgrade_add(struct http_headers *headers)
{
    add(headers, SLICE("Connection"), SLICE("Upgrade"));
    add(headers, SLICE("Upgrade"), SLICE("websocket"));
}

/* Of a deadline that only the body tells, and that PoP reads: what it has to take off. One that
 * does not know the parameter would refuse the request: there the time counts from its arrival. */
static uint64_t spent_ms(const struct request *request, const struct forward_peer *peer)
{
    if (request->route.call != OIP_INFER || request->http ||
        peer_keys_known(request->gl->gateway->keys, slice_of(peer->name)) < 1)
        return 0;
    int64_t spent = (loop_now_ns() - request->arrived_ns) / ENV_MS;

    return spent < FORWARD_SPENT_MS_MIN            ? 0
           : (uint64_t)spent < HOP_DEADLINE_MS_MAX ? (uint64_t)spent
                                                   : HOP_DEADLINE_MS_MAX;
}

int forward_request_headers(struct arena *arena, struct request *request,
                            const struct forward_peer *peer, struct http_headers *ret,
                            struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    unsigned char key[HOP_KEY_BYTES];
    struct hop hop = {
        .from = table_text(request->table->head, request->table->head->pop),
        .to = slice_of(peer->name),
        .deadline_ms = left_ms(request),
        .spent_ms = spent_ms(request, peer),
        .revision = traffic_for_hop(request),
        .id = slice_of(request->id),
    };
    struct hop_request about = { http->method_text, http->target, forward_subject(arena, request),
                                 request->process_in };
    char text[HOP_BYTES_MAX];

    if (!peer_keys_find(request->gl->gateway->keys, slice_of(peer->name), key))
        return err_set(err, ERR_OVERLOADED, "there is no key yet for PoP '%s'", peer->name);
    country_code_of(residency_client(request), hop.client);
    int size = hop_print(&hop, &about, key, text, err);
    explicit_bzero(key, sizeof key);
    if (size < 0)
        return size;
    *ret = http_end_to_end(arena, &http->headers, left_out_of_request, never_named_away, 4);
    add(ret, SLICE("X-Request-Id"), slice_of(request->id));
    add(ret, SLICE(HOP_HEADER), arena_copy(arena, (struct slice){ text, (size_t)size }));
    if (forward_upgrades(request))
        upgrade_add(ret);
    return 0;
}

/* ---- what another PoP passed on ------------------------------------------------------------- */

static bool hop_right(const struct request *request, const struct hop *hop)
{
    const struct http_request *http = exchange_request(request->x);
    const struct table_head *table = request->table->head;
    struct hop_request about = { http->method_text, http->target,
                                 forward_subject(request->arena, request),
                                 http_header_get(&http->headers, "Perigee-Process-In") };
    unsigned char key[HOP_KEY_BYTES];

    if (!slice_equal(hop->to, table_text(table, table->pop)) ||
        !peer_keys_find(request->gl->gateway->keys, hop->from, key))
        return false;
    bool right = hop_verify(hop, &about, key);
    explicit_bzero(key, sizeof key);
    return right;
}

int forward_hop_read(struct request *request, struct slice header, struct err *err)
{
    struct hop hop;
    int r = hop_parse(header, &hop, err);

    if (r == 0 && !hop_right(request, &hop))
        r = err_set(err, ERR_BAD_INPUT,
                    HOP_HEADER " is not of a PoP of this fleet to this one; only they send it");
    if (r < 0) {
        struct slice label = SLICE("refused");
        metric_add(metrics_series(&request->gl->metrics, GATEWAY_HOPS, &label), 1);
        request->hop_refused = true;
        exchange_close_after(request->x);
        return r;
    }
    request->hop = true;
    request->hop_revision = hop.revision;
    request->spent_ns = (int64_t)hop.spent_ms * ENV_MS;
    request->hop_client = country_number_of(slice_of(hop.client));
    if (hop.deadline_ms)
        request->deadline_ns = request->arrived_ns + (int64_t)hop.deadline_ms * ENV_MS;
    metric_add(metrics_series(&request->gl->metrics, GATEWAY_HOPS, &hop.from), 1);
    return 0;
}

/* ---- the answer ----------------------------------------------------------------------------- */

/* What the other PoP says of its time, and the round trip to this one's client. */
static struct slice timing(struct arena *arena, struct request *request, struct slice theirs)
{
    request->rtt_us = exchange_rtt_us(request->x);
    if (!request->rtt_us)
        return theirs;
    return slice_of(arena_format(arena, "%.*s%snet;dur=%u.%03u", SLICE_FMT(theirs),
                                 theirs.size ? ", " : "", request->rtt_us / 1000,
                                 request->rtt_us % 1000));
}

struct http_headers forward_answer_headers(struct arena *arena, struct request *request, int status,
                                           const struct http_headers *headers)
{
    struct http_headers out =
        http_end_to_end(arena, headers, left_out_of_answer, never_named_away, 3);
    struct slice all = timing(arena, request, http_header_get(headers, "Server-Timing"));

    if (all.size)
        add(&out, SLICE("Server-Timing"), all);
    if (status == 101)
        upgrade_add(&out);
    return out;
}

struct http_headers forward_inform_headers(struct request *request,
                                           const struct http_headers *headers)
{
    return http_end_to_end(request->arena, headers, left_out_of_answer, never_named_away, 0);
}

bool forward_refused(const struct http_response *response)
{
    /* By its gateway, before a replica had it: full, starting, without a table that knows it. */
    static const int before[] = { ERR_NOT_FOUND, ERR_RESIDENCY, ERR_OVERLOADED, ERR_STOPPED,
                                  ERR_STARTING };
    struct slice error = http_header_get(&response->headers, "Perigee-Error");

    if (http_header_find(&response->headers, HOP_HEADER)) /* it has another key than we */
        return true;
    for (size_t i = 0; error.size && i < sizeof before / sizeof *before; i++)
        if (slice_is(error, err_info(before[i])->name))
            return true;
    return false;
}
