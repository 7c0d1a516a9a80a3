/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_dns PORT POPS ENDPOINTS [RENEW_MS [forget]]: the DNS server over a made world, on one
 * thread, until its standard input ends. bench/dns asks it, and Knot DNS the same. The world: block
 * i of the address map, 10.0.0.0 + i * 2^17 of 15 bits, is where PoP i stands; every endpoint is at
 * every PoP.
 *
 * Each RENEW_MS (0: never) it makes a view of its table and of what is measured then, as a server
 * in a fleet under load does about once a second (dns.c): waits, weights and runs of all places are
 * others each time. The agent makes the mesh, in its own process: here that is done beforehand.
 * `forget`: no view follows the one before, so that the memo is empty after each.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "contract/mesh.h"
#include "contract/table.h"
#include "dns/follow.h"
#include "dns/server.h"
#include "dns/today.h"
#include "dns/udp.h"
#include "dns/view.h"
#include "geo/where.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/listen.h"

enum { COUNT_MAX = 1000, BLOCK_BITS = 15, MESHES = 8 };

struct fleet {
    size_t pops, endpoints;
    int64_t renew_ms;
    bool forget;
    struct arena *arena;
    const struct table_head *table;
    const struct mesh_head *meshes[MESHES]; /* as of one second after the other, in turn */
    struct dns_node node;
    struct dns_server server;
    struct dns_view *view;
    struct timer *timer;
    uint64_t views;
    int64_t views_ns;
};

static uint64_t state = 1;

static double uniform(double from, double to)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (to - from) * (double)(state >> 11) / (double)(UINT64_C(1) << 53);
}

[[gnu::noreturn]] static void die(const struct err *err)
{
    (void)fprintf(stderr, "bench_dns: %s\n", err->message);
    exit(1);
}

/* ---- the world ------------------------------------------------------------------------------- */

static struct where_map *make_map(const struct table_source_pop *pops, size_t count)
{
    static struct where_block blocks[COUNT_MAX];
    struct where_map *map;
    struct err err;
    for (size_t i = 0; i < count; i++) {
        uint32_t first = (UINT32_C(10) << 24) + ((uint32_t)i << (32 - BLOCK_BITS));
        const uint8_t bytes[] = { (uint8_t)(first >> 24), (uint8_t)(first >> 16), 0, 0 };
        blocks[i] = (struct where_block){ { ip_from4(bytes), IP4_BITS + BLOCK_BITS },
                                          pops[i].country,
                                          true,
                                          (double)pops[i].latitude,
                                          (double)pops[i].longitude };
    }
    if (where_map_open(blocks, count, NULL, NULL, &map, &err) < 0)
        die(&err);
    return map;
}

static void make_table(struct fleet *fleet)
{
    static struct table_source_pop pops[COUNT_MAX];
    static struct ip addresses[COUNT_MAX];
    static struct table_source_placement placements[COUNT_MAX];
    static struct table_source_endpoint endpoints[COUNT_MAX];
    struct slice bytes;
    struct err err;
    for (size_t i = 0; i < fleet->pops; i++) {
        addresses[i] =
            ip_from4((const uint8_t[]){ 192, 0, (uint8_t)(2 + i / 250), (uint8_t)(1 + i % 250) });
        pops[i] = (struct table_source_pop){
            .name = slice_of(arena_format(fleet->arena, "pop-%03zu", i)), /* rising */
            .country = country_number_of(SLICE("FR")),
            .flags = TABLE_POP_UP | TABLE_POP_LOCATED,
            .latitude = (float)uniform(-50, 65),
            .longitude = (float)uniform(-180, 180),
            .addresses = &addresses[i],
            .address_count = 1,
        };
        placements[i] = (struct table_source_placement){ pops[i].name, 1 };
    }
    for (size_t i = 0; i < fleet->endpoints; i++)
        endpoints[i] = (struct table_source_endpoint){
            .uid = i + 1,
            .name = slice_of(arena_format(fleet->arena, "endpoint-%zu", i)),
            .project = SLICE("default"),
            .state = TABLE_ENDPOINT_AWAY,
            .placements = placements,
            .placement_count = fleet->pops,
            .concurrency = 1,
            .queue_timeout_us = 1,
            .queue_cold_us = 1,
            .timeout_us = 1,
            .body_bytes_max = 1,
            .queue_bytes_max = 1,
        };
    const struct table_source source = {
        .number = 1,
        .zone = SLICE("bench.test"),
        .pop = SLICE("ns-1"),
        .country = SLICE("FR"),
        .pops = pops,
        .pop_count = fleet->pops,
        .endpoints = endpoints,
        .endpoint_count = fleet->endpoints,
    };
    if (table_build(fleet->arena, &source, &bytes, &err) < 0)
        die(&err);
    fleet->table = (const void *)bytes.data;
    fleet->node.map = make_map(pops, fleet->pops);
}

static float near(double around)
{
    return (float)(around * uniform(0.9, 1.1));
}

/* What each place waits for, and takes to run, differs; from one second to the next by a tenth. */
static void make_meshes(struct fleet *fleet)
{
    size_t count = fleet->pops * fleet->endpoints;
    struct mesh_pop *pops = mem_zalloc(fleet->pops * sizeof *pops);
    struct mesh_load *loads = mem_zalloc(count * sizeof *loads);
    float *waits = mem_zalloc(count * sizeof *waits);
    for (size_t i = 0; i < count; i++)
        waits[i] = (float)uniform(0, 5);
    for (size_t i = 0; i < MESHES; i++) {
        struct slice bytes;
        struct err err;
        for (size_t k = 0; k < fleet->pops; k++) {
            pops[k] = (struct mesh_pop){ .health = MESH_UP, .calm = 1 };
            (void)snprintf(pops[k].name, sizeof pops[k].name, "pop-%03zu", k);
        }
        for (size_t k = 0; k < count; k++)
            loads[k] = (struct mesh_load){ .endpoint = k / fleet->pops + 1,
                                           .pop = (uint32_t)(k % fleet->pops),
                                           .wait_ms = near((double)waits[k]),
                                           .service_ms = near(2),
                                           .weight = near(1) };
        const struct mesh_source source = { .number = i + 1,
                                            .pops = pops,
                                            .pop_count = fleet->pops,
                                            .loads = loads,
                                            .load_count = count };
        if (mesh_build(fleet->arena, &source, &bytes, &err) < 0)
            die(&err);
        fleet->meshes[i] = (const void *)bytes.data;
    }
    free(pops);
    free(loads);
    free(waits);
}

/* ---- serving --------------------------------------------------------------------------------- */

static void renew(struct fleet *fleet)
{
    struct dns_view *view;
    struct err err;
    int64_t begun_ns = loop_now_ns();
    fleet->node.mesh = fleet->meshes[fleet->views++ % MESHES];
    fleet->node.now_ns = begun_ns;
    if (dns_view_today(fleet->table, &fleet->node, &view, &err) < 0)
        die(&err);
    if (fleet->view && !fleet->forget)
        dns_view_follow(view, fleet->view);
    dns_server_set_view(&fleet->server, view);
    dns_view_free(fleet->view);
    fleet->view = view;
    fleet->views_ns += loop_now_ns() - begun_ns;
}

static void on_renew(void *data)
{
    struct fleet *fleet = data;
    renew(fleet);
    timer_start(fleet->timer, fleet->renew_ms);
}

static void on_input(struct watch *, unsigned, void *data)
{
    loop_stop(data);
}

static void serve(struct fleet *fleet, struct loop *loop, int fd)
{
    struct dns_udp *udp = dns_udp_new(loop, &fleet->server, fd);
    struct watch *input = watch_new(loop, 0, WATCH_READ, on_input, loop);
    fleet->timer = timer_new(loop, on_renew, fleet);
    if (fleet->renew_ms > 0)
        timer_start(fleet->timer, fleet->renew_ms);
    (void)puts("ready");
    (void)fflush(stdout);
    loop_run(loop);
    (void)printf("%" PRIu64 " views, %.1f ms each\n", fleet->views,
                 (double)fleet->views_ns / (double)fleet->views / 1e6);
    timer_free(fleet->timer);
    watch_free(input);
    dns_udp_free(udp);
}

int main(int argc, char **argv)
{
    static struct fleet fleet = { .node = { .alone = true } };
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    struct listen_set set;
    struct metrics metrics = {};
    struct err err;
    char text[64];
    size_t count;
    if (argc < 4 || argc > 6 || atol(argv[2]) > COUNT_MAX || atol(argv[3]) > COUNT_MAX) {
        (void)fprintf(stderr, "usage: bench_dns PORT POPS ENDPOINTS [RENEW_MS [forget]]\n");
        return 2;
    }
    fleet.arena = arena_new();
    fleet.pops = (size_t)atol(argv[2]);
    fleet.endpoints = (size_t)atol(argv[3]);
    fleet.renew_ms = argc > 4 ? atol(argv[4]) : 0;
    fleet.forget = argc > 5;
    (void)snprintf(text, sizeof text, "127.0.0.1:%s", argv[1]);
    metrics_attach(&metrics, &dns_metrics, mem_zalloc(DNS_REGION_BYTES), DNS_REGION_BYTES);
    if (listen_parse("PORT", text, addresses, &count, &err) < 0 ||
        listen_open_dns("PORT", addresses, &set, &err) < 0 ||
        dns_server_init(&fleet.server, &metrics, &err) < 0)
        die(&err);
    make_table(&fleet);
    make_meshes(&fleet);
    struct loop *loop = loop_new();
    renew(&fleet);
    serve(&fleet, loop, set.fds[1]);
    return 0;
}
