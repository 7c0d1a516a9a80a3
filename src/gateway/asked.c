/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/asked.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "gateway/request.h"
#include "geo/where.h"
#include "io/loop.h"
#include "io/timer.h"

/* ---- the counts ------------------------------------------------------------------------------ */

static bool place_found(struct asked *asked, unsigned slot, asked_cell cell)
{
    asked_cell there = atomic_load_explicit(&asked->cells[slot], memory_order_relaxed);
    return there == cell ||
           (there == 0 &&
            (atomic_compare_exchange_strong(&asked->cells[slot], &there, cell) || there == cell));
}

void asked_add(struct asked *asked, asked_cell cell, uint32_t count)
{
    unsigned from = (unsigned)(cell * UINT32_C(0x9e3779b1) >> 26); /* Fibonacci hashing, 64 ways */
    static_assert(ASKED_CELLS_MAX == 64, "six bits");
    for (unsigned i = 0; i < ASKED_CELLS_MAX && cell != ASKED_SOMEWHERE; i++) {
        unsigned slot = (from + i) % ASKED_CELLS_MAX;
        if (!place_found(asked, slot, cell))
            continue;
        atomic_fetch_add_explicit(&asked->counts[slot], count, memory_order_relaxed);
        return;
    }
    atomic_fetch_add_explicit(&asked->somewhere, count, memory_order_relaxed);
}

unsigned asked_take(struct asked *asked, asked_cell ret_cells[static ASKED_CELLS_MAX + 1],
                    uint32_t ret_counts[static ASKED_CELLS_MAX + 1])
{
    unsigned taken = 0;
    for (unsigned slot = 0; slot < ASKED_CELLS_MAX; slot++) {
        asked_cell cell = atomic_load(&asked->cells[slot]);
        uint32_t count = cell ? atomic_exchange(&asked->counts[slot], 0) : 0;
        if (cell && count == 0)
            atomic_store(&asked->cells[slot], 0);
        if (count == 0)
            continue;
        ret_cells[taken] = cell;
        ret_counts[taken++] = count;
    }
    uint32_t somewhere = atomic_exchange(&asked->somewhere, 0);
    if (somewhere) {
        ret_cells[taken] = ASKED_SOMEWHERE;
        ret_counts[taken++] = somewhere;
    }
    return taken;
}

/* Those that nobody has asked for yet have none. */
static struct asked *asked_of(struct endpoint *endpoint)
{
    struct asked *asked = atomic_load_explicit(&endpoint->asked, memory_order_acquire);

    if (asked)
        return asked;
    struct asked *made = mem_zalloc(sizeof *made);
    if (atomic_compare_exchange_strong(&endpoint->asked, &asked, made))
        return made;
    free(made); /* another loop was first */
    return asked;
}

/* ---- one request ----------------------------------------------------------------------------- */

/* Clients come again: the map, which never changes, is asked once for each of the last few. */
static asked_cell cell_of(struct gateway_loop *gl, const struct address *client)
{
    struct ip ip;
    if (client->kind == ADDRESS_IP4)
        ip = ip_from4(client->ip);
    else if (client->kind == ADDRESS_IP6)
        memcpy(ip.bytes, client->ip, sizeof ip.bytes);
    else
        return ASKED_SOMEWHERE;
    uint64_t words[2];
    memcpy(words, ip.bytes, sizeof words);
    uint64_t hash = (words[0] ^ words[1]) * UINT64_C(0x9e3779b97f4a7c15);
    struct asked_client *known = &gl->asked_clients[hash >> 58];
    static_assert(sizeof gl->asked_clients / sizeof *gl->asked_clients == 64, "six bits");
    if (known->cell && memcmp(known->ip.bytes, ip.bytes, sizeof ip.bytes) == 0)
        return known->cell;
    struct where where = where_find(gl->gateway->where, &ip);
    *known = (struct asked_client){ ip, asked_cell_of(where.country, where.located, where.latitude,
                                                      where.longitude) };
    return known->cell;
}

static void on_due(void *data)
{
    struct gateway *gateway = data;
    timer_start(gateway->asked, gateway_asked_ms);
}

void asked_count(struct request *request)
{
    struct gateway *gateway = request->gl->gateway;

    if (request->hop) /* it was counted where the client came */
        return;
    asked_cell cell =
        gateway->where ? cell_of(request->gl, exchange_client(request->x)) : ASKED_SOMEWHERE;
    asked_add(asked_of(request->endpoint), cell, 1);
    if (!atomic_load_explicit(&gateway->asked_due, memory_order_relaxed) &&
        !atomic_exchange(&gateway->asked_due, true))
        loop_post(gateway->main, on_due, gateway);
}

/* ---- telling --------------------------------------------------------------------------------- */

static void endpoint_tell(struct gateway *gateway, struct endpoint *endpoint)
{
    asked_cell cells[ASKED_CELLS_MAX + 1];
    uint32_t counts[ASKED_CELLS_MAX + 1];
    struct asked *counted = atomic_load(&endpoint->asked);
    unsigned taken = counted ? asked_take(counted, cells, counts) : 0;

    for (unsigned from = 0; from < taken; from += ASKED_CELLS_MAX) {
        union message message = { .as_MESSAGE_ASKED = MESSAGE_INIT(MESSAGE_ASKED) };
        struct message_asked *asked = &message.as_MESSAGE_ASKED;
        asked->endpoint = endpoint->uid;
        for (unsigned i = from; i < taken && asked->count < ASKED_CELLS_MAX; i++, asked->count++) {
            asked->cells[asked->count].cell = cells[i];
            asked->cells[asked->count].requests = counts[i];
        }
        if (gateway_send_agent(gateway, &message))
            continue;
        for (unsigned i = 0; i < asked->count; i++) /* it is told with the next ones */
            asked_add(asked_of(endpoint), asked->cells[i].cell, asked->cells[i].requests);
    }
}

void asked_tell(void *data)
{
    struct gateway *gateway = data;

    atomic_store(&gateway->asked_due, false); /* first: who comes now tells */
    MAP_EACH (entry, &gateway->endpoints)
        endpoint_tell(gateway, entry->value);
}
