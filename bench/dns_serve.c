/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_dns PORT POPS ENDPOINTS: the DNS server over a made world, on one thread, until its
 * standard input ends. bench/dns asks it, and Knot DNS the same. The world: block i of the address
 * map, 10.0.0.0 + i * 2^17 of 15 bits, is where PoP i stands; every endpoint is at every PoP.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "dns/server.h"
#include "dns/udp.h"
#include "dns/view.h"
#include "geo/where.h"
#include "io/loop.h"
#include "io/socket.h"
#include "sys/listen.h"

enum { COUNT_MAX = 1000, BLOCK_BITS = 15 };

static uint64_t state = 1;

static double uniform(double from, double to)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (to - from) * (double)(state >> 11) / (double)(UINT64_C(1) << 53);
}

static struct where_map *make_map(const struct dns_source_pop *pops, size_t count)
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
                                          pops[i].latitude,
                                          pops[i].longitude };
    }
    if (where_map_open(blocks, count, NULL, NULL, &map, &err) < 0) {
        (void)fprintf(stderr, "bench_dns: %s\n", err.message);
        exit(1);
    }
    return map;
}

static struct dns_view *make_view(size_t pop_count, size_t endpoint_count)
{
    static struct dns_source_pop pops[COUNT_MAX];
    static struct ip addresses[COUNT_MAX];
    static struct dns_source_place places[COUNT_MAX];
    static struct dns_source_endpoint endpoints[COUNT_MAX];
    struct arena *arena = arena_new();
    struct dns_view *view;
    struct err err;
    for (size_t i = 0; i < pop_count; i++) {
        addresses[i] =
            ip_from4((const uint8_t[]){ 192, 0, (uint8_t)(2 + i / 250), (uint8_t)(1 + i % 250) });
        pops[i] = (struct dns_source_pop){
            .name = slice_of(arena_format(arena, "pop-%zu", i)),
            .country = country_number_of(SLICE("FR")),
            .located = true,
            .latitude = uniform(-50, 65),
            .longitude = uniform(-180, 180),
            .stable = true,
            .addresses = &addresses[i],
            .address_count = 1,
        };
        places[i] = (struct dns_source_place){ (uint32_t)i, (float)uniform(0, 5), 2, 0, 1 };
    }
    for (size_t i = 0; i < endpoint_count; i++)
        endpoints[i] =
            (struct dns_source_endpoint){ slice_of(arena_format(arena, "endpoint-%zu", i)),
                                          SLICE("default"), places, pop_count, NULL };
    const struct dns_source source = {
        .zone = SLICE("bench.test"),
        .number = 1,
        .pops = pops,
        .pop_count = pop_count,
        .endpoints = endpoints,
        .endpoint_count = endpoint_count,
        .map = make_map(pops, pop_count),
    };
    if (dns_view_build(&source, &view, &err) < 0) {
        (void)fprintf(stderr, "bench_dns: %s\n", err.message);
        exit(1);
    }
    arena_free(arena);
    return view;
}

static void on_input(struct watch *, unsigned, void *data)
{
    loop_stop(data);
}

int main(int argc, char **argv)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    struct listen_set set;
    struct metrics metrics = {};
    struct dns_server server = {};
    struct err err;
    char text[64];
    size_t count;
    if (argc != 4 || atol(argv[2]) > COUNT_MAX || atol(argv[3]) > COUNT_MAX) {
        (void)fprintf(stderr, "usage: bench_dns PORT POPS ENDPOINTS\n");
        return 2;
    }
    (void)snprintf(text, sizeof text, "127.0.0.1:%s", argv[1]);
    metrics_attach(&metrics, &dns_metrics, mem_zalloc(DNS_REGION_BYTES), DNS_REGION_BYTES);
    if (listen_parse("PORT", text, addresses, &count, &err) < 0 ||
        listen_open_dns("PORT", addresses, &set, &err) < 0 ||
        dns_server_init(&server, &metrics, &err) < 0) {
        (void)fprintf(stderr, "bench_dns: %s\n", err.message);
        return 1;
    }
    dns_server_set_view(&server, make_view((size_t)atol(argv[2]), (size_t)atol(argv[3])));
    struct loop *loop = loop_new();
    struct dns_udp *udp = dns_udp_new(loop, &server, set.fds[1]);
    struct watch *input = watch_new(loop, 0, WATCH_READ, on_input, loop);
    (void)puts("ready");
    (void)fflush(stdout);
    loop_run(loop);
    watch_free(input);
    dns_udp_free(udp);
    return 0;
}
