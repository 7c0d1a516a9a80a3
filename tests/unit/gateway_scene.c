/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_scene.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/countries.h"
#include "base/err.h"
#include "contract/gateway_metrics.h"
#include "contract/mesh.h"
#include "sys/fd.h"
#include "sys/shm.h"

uint64_t scene_machine_bytes;

/* In the place of libc's. */
int sysinfo(struct sysinfo *info)
{
    if (scene_machine_bytes == 0)
        return (int)syscall(SYS_sysinfo, info);
    *info = (struct sysinfo){ .totalram = scene_machine_bytes, .mem_unit = 1 };
    return 0;
}

const struct table_source_placement scene_at_other[1] = { { SLICE("other"), 1 } };
const struct table_source_placement scene_at_all[3] = { { SLICE("local"), 1 },
                                                        { SLICE("other"), 1 },
                                                        { SLICE("third"), 1 } };

const struct table_source_placement scene_at_both[2] = { { SLICE("other"), 1 },
                                                         { SLICE("third"), 1 } };

struct world_endpoint scene_endpoint(uint32_t state, const struct table_source_placement *placed,
                                     size_t count)
{
    struct world_endpoint row = case_digits;

    row.body_bytes_max = 12 << 20;
    row.state = state;
    row.placements = placed;
    row.placement_count = count;
    return row;
}

struct residency_rule scene_rule_in(const char *process, const char *transit)
{
    struct residency_rule rule = { .clients.scope = RESIDENCY_ANY };

    rule.process.scope = RESIDENCY_COUNTRIES;
    countries_add(&rule.process.countries, country_number_of(slice_of(process)));
    rule.transit = rule.process;
    if (transit)
        countries_add(&rule.transit.countries, country_number_of(slice_of(transit)));
    rule.logs = rule.cache = rule.process;
    return rule;
}

static void pop_set(struct scene *scene, size_t row, const char *name, const char *country,
                    uint16_t port)
{
    scene->pops[row] = (struct table_source_pop){
        .name = slice_of(name),
        .country = country_number_of(slice_of(country)),
        .flags = TABLE_POP_UP,
        .addresses = &scene->address,
        .address_count = 1,
        .port = port,
    };
}

/* This PoP is in Germany, `other` in France, `third` in Japan. */
void scene_begin(struct scene *scene, const struct world_endpoint *row, enum peer_mode mode,
                 bool replica)
{
    union message message;

    *scene = (struct scene){ .address = ip_from4((const uint8_t[]){ 127, 0, 0, 1 }) };
    peer_begin(&scene->other, mode);
    peer_begin(&scene->third, PEER_ECHOES);
    pop_set(scene, 0, "local", "DE", 0);
    pop_set(scene, 1, "other", "FR", scene->other.port);
    pop_set(scene, 2, "third", "JP", scene->third.port);
    scene->world.pops = scene->pops;
    scene->world.pop_count = 3;
    scene->world.country = "DE";
    world_start(&scene->world, 1);
    scene->row = *row;
    world_table(&scene->world, ++scene->table, row, 1);
    if (replica)
        fake_start(&scene->world, &scene->fake, 7, WORLD_REVISION(0, 1), 2);
    world_go(&scene->world);
    if (replica)
        world_expect(&scene->world, true, MESSAGE_REPLICA_READY, &message);
    world_keys(&scene->world, (const char *const[]){ "other", "third" }, 2);
    world_pass(&scene->world);
}

/* Once every loop serves another table, they have what was sent before it as well. */
void scene_table(struct scene *scene)
{
    union message message;

    world_table(&scene->world, ++scene->table, &scene->row, 1);
    do
        world_expect(&scene->world, true, MESSAGE_TABLE_SERVED, &message);
    while (message.as_MESSAGE_TABLE_SERVED.number < scene->table);
}

void scene_mesh(struct scene *scene, const struct scene_figures *figures, size_t count)
{
    struct mesh_pop pops[3] = {};
    struct mesh_load loads[3];
    size_t load_count = 0;
    static uint64_t number;
    struct arena *arena = arena_new();
    union message message = { .as_MESSAGE_MESH_NEW = MESSAGE_INIT(MESSAGE_MESH_NEW) };
    struct timespec now;
    struct slice bytes;
    struct err err;
    int fd;

    clock_gettime(CLOCK_MONOTONIC, &now);
    for (size_t i = 0; i < count; i++) {
        snprintf(pops[i].name, sizeof pops[i].name, "%s", figures[i].name);
        pops[i].health = figures[i].health;
        pops[i].rtt_ms = figures[i].rtt_ms;
        if (!isnan(figures[i].start_ms))
            loads[load_count++] = (struct mesh_load){ .endpoint = 1,
                                                      .pop = (uint32_t)i,
                                                      .wait_ms = figures[i].wait_ms,
                                                      .service_ms = 1,
                                                      .start_ms = figures[i].start_ms,
                                                      .weight = 1,
                                                      .last_start_ms = figures[i].last_start_ms };
    }
    struct mesh_source source = { .number = ++number,
                                  .at_ns = now.tv_sec * INT64_C(1'000'000'000) + now.tv_nsec,
                                  .pops = pops,
                                  .pop_count = count,
                                  .loads = loads,
                                  .load_count = load_count };
    assert_int_equal(mesh_build(arena, &source, &bytes, &err), 0);
    assert_int_equal(shm_publish("mesh", bytes.data, bytes.size, &fd, &err), 0);
    message.as_MESSAGE_MESH_NEW.number = number;
    message.as_MESSAGE_MESH_NEW.bytes = bytes.size;
    world_send(&scene->world, &message, &fd, 1);
    fd_close(&fd);
    arena_free(arena);
    scene_table(scene);
}

void scene_end(struct scene *scene)
{
    world_stop(&scene->world);
    if (scene->fake.running)
        fake_free(&scene->fake);
    case_closed(&scene->world);
    peer_end(&scene->other);
    peer_end(&scene->third);
}

void scene_expect(struct reply reply, int status, const char *part)
{
    case_answer(&reply, status, part);
    reply_free(&reply);
}

void scene_begin_away(struct scene *scene, enum peer_mode mode)
{
    struct world_endpoint row = scene_endpoint(TABLE_ENDPOINT_AWAY, scene_at_other, 1);
    scene_begin(scene, &row, mode, false);
}

bool scene_counter(struct world *world, const char *row)
{
    struct arena *arena = arena_new();
    void *data;
    struct err err;
    assert_int_equal(shm_map(world->metrics_fd, gateway_region_bytes(), false, &data, &err), 0);
    struct slice text = gateway_metrics_print(arena, data, gateway_region_bytes());
    bool found = memmem(text.data, text.size, row, strlen(row)) != NULL;
    shm_unmap(data, gateway_region_bytes());
    arena_free(arena);
    return found;
}

bool scene_asked(struct world *world, void *data)
{
    struct peer *peer = data;
    (void)world;
    return atomic_load(&peer->requests) > 0;
}
