/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/asked.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/env.h"
#include "base/json.h"
#include "contract/messages.h"

struct asked_row {
    asked_cell cell;
    uint64_t requests; /* told ones among them */
    uint64_t told;
};

struct asked_endpoint {
    uint64_t uid;
    unsigned count;
    struct asked_row rows[ASKED_CELLS_MAX];
};

static void row_add(struct asked_endpoint *endpoint, asked_cell cell, uint32_t requests)
{
    struct asked_row *last = &endpoint->rows[ASKED_CELLS_MAX - 1];
    unsigned at = 0;
    while (at < endpoint->count && endpoint->rows[at].cell != cell)
        at++;
    if (at == ASKED_CELLS_MAX) { /* the last one is for all that find no place */
        last->cell = ASKED_SOMEWHERE;
        last->requests += requests;
        return;
    }
    if (at == endpoint->count)
        endpoint->rows[endpoint->count++] = (struct asked_row){ .cell = cell };
    endpoint->rows[at].requests += requests;
}

void pop_asked_add(struct pop_asked *asked, const struct message_asked *message)
{
    struct asked_endpoint *endpoint = map_get_u64(&asked->endpoints, message->endpoint);
    if (!endpoint && asked->endpoints.count >= POP_ASKED_ENDPOINTS_MAX)
        return;
    if (!endpoint) {
        endpoint = mem_zalloc(sizeof *endpoint);
        endpoint->uid = message->endpoint;
        (void)map_put_u64(&asked->endpoints, endpoint->uid, endpoint);
    }
    for (uint32_t i = 0; i < message->count; i++)
        if (asked_valid(message->cells[i].cell))
            row_add(endpoint, message->cells[i].cell, message->cells[i].requests);
}

void pop_asked_deinit(struct pop_asked *asked)
{
    MAP_EACH (entry, &asked->endpoints)
        free(entry->value);
    map_deinit(&asked->endpoints);
}

/* ---- telling --------------------------------------------------------------------------------- */

static int most_first(const void *a, const void *b)
{
    const struct asked_row *x = a, *y = b;
    if (x->requests != y->requests)
        return x->requests < y->requests ? 1 : -1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

static void row_write(struct json_writer *w, const struct asked_row *row)
{
    double latitude, longitude;
    char country[3];
    country_code_of(asked_country(row->cell), country);
    json_object_begin(w);
    json_member_text(w, "country", country);
    if (asked_spot(row->cell, &latitude, &longitude)) {
        json_member_double(w, "latitude", latitude);
        json_member_double(w, "longitude", longitude);
    }
    json_member_u64(w, "requests", row->requests);
    json_object_end(w);
}

static void endpoint_write(struct json_writer *w, struct asked_endpoint *endpoint,
                           unsigned rows_max)
{
    qsort(endpoint->rows, endpoint->count, sizeof *endpoint->rows, most_first);
    json_object_begin(w);
    json_member_u64(w, "uid", endpoint->uid);
    json_key(w, "clients");
    json_array_begin(w);
    for (unsigned i = 0; i < endpoint->count; i++) {
        endpoint->rows[i].told = endpoint->rows[i].requests;
        if (i < rows_max)
            row_write(w, &endpoint->rows[i]);
    }
    json_array_end(w);
    json_object_end(w);
}

void pop_asked_write(struct pop_asked *asked, struct json_writer *w, int64_t now_ns)
{
    asked->told_ns = 0;
    if (asked->since_ns == 0)
        asked->since_ns = now_ns;
    if (now_ns - asked->since_ns < POP_ASKED_MS_MIN * ENV_MS)
        return;
    asked->told_ns = now_ns;
    unsigned rows_max = (unsigned)(POP_ASKED_ROWS_MAX / (asked->endpoints.count + 1));
    json_key(w, "demand");
    json_object_begin(w);
    json_member_u64(w, "window_ms", (uint64_t)((now_ns - asked->since_ns) / ENV_MS));
    json_key(w, "endpoints");
    json_array_begin(w);
    MAP_EACH (entry, &asked->endpoints)
        endpoint_write(w, entry->value, rows_max ? rows_max : 1);
    json_array_end(w);
    json_object_end(w);
}

void pop_asked_taken(struct pop_asked *asked)
{
    if (asked->told_ns == 0)
        return;
    asked->since_ns = asked->told_ns;
    asked->told_ns = 0;
    MAP_EACH (entry, &asked->endpoints) {
        struct asked_endpoint *endpoint = entry->value;
        unsigned kept = 0;
        for (unsigned i = 0; i < endpoint->count; i++) {
            struct asked_row row = endpoint->rows[i];
            row.requests -= row.told;
            row.told = 0;
            if (row.requests)
                endpoint->rows[kept++] = row;
        }
        endpoint->count = kept;
        if (kept == 0) {
            (void)map_remove_u64(&asked->endpoints, endpoint->uid);
            free(endpoint);
        }
    }
}
