/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/mesh.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

static_assert(sizeof(struct mesh_head) == 48 && sizeof(struct mesh_pop) == 80 &&
              sizeof(struct mesh_load) == 32);

static const struct mesh_load *all_loads(const struct mesh_head *mesh)
{
    return (const struct mesh_load *)(mesh_pops(mesh) + mesh->pop_count);
}

static uint64_t bytes_of(uint64_t pops, uint64_t loads)
{
    return sizeof(struct mesh_head) + pops * sizeof(struct mesh_pop) +
           loads * sizeof(struct mesh_load);
}

static struct slice name_of(const struct mesh_pop *pop)
{
    return slice_of(pop->name);
}

/* ---- building ------------------------------------------------------------------------------- */

static int order_pops(const void *a, const void *b)
{
    const struct mesh_pop *const *x = a, *const *y = b;
    return slice_order(name_of(*x), name_of(*y));
}

static int order_loads(const void *a, const void *b)
{
    const struct mesh_load *x = a, *y = b;
    if (x->endpoint != y->endpoint)
        return x->endpoint < y->endpoint ? -1 : 1;
    return (x->pop > y->pop) - (x->pop < y->pop);
}

/* Rows in order, and where each of those given has come to stand. */
static const uint32_t *pops_place(struct arena *arena, const struct mesh_source *source,
                                  struct mesh_head *mesh)
{
    size_t count = source->pop_count;
    const struct mesh_pop **sorted = ARENA_ARRAY(arena, const struct mesh_pop *, count + 1);
    uint32_t *rows = ARENA_ARRAY(arena, uint32_t, count + 1);
    struct mesh_pop *pops = (struct mesh_pop *)(mesh + 1);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &source->pops[i];
    if (count > 1)
        qsort((void *)sorted, count, sizeof *sorted, order_pops);
    for (size_t i = 0; i < count; i++) {
        pops[i] = *sorted[i];
        rows[sorted[i] - source->pops] = (uint32_t)i;
        if (source->self.size && slice_equal(name_of(&pops[i]), source->self))
            mesh->self = (uint32_t)i;
    }
    return rows;
}

int mesh_build(struct arena *arena, const struct mesh_source *source, struct slice *ret_bytes,
               struct err *err)
{
    if (source->pop_count > MESH_POPS_MAX || source->load_count > MESH_LOADS_MAX)
        return err_set(err, ERR_TOO_LARGE, "a mesh of %zu PoPs and %zu loads; at most %d and %d",
                       source->pop_count, source->load_count, (int)MESH_POPS_MAX,
                       (int)MESH_LOADS_MAX);
    uint64_t bytes = bytes_of(source->pop_count, source->load_count);
    struct mesh_head *mesh = arena_alloc(arena, bytes);
    *mesh = (struct mesh_head){
        .magic = MESH_MAGIC,
        .version = MESH_VERSION,
        .bytes = bytes,
        .number = source->number,
        .at_ns = source->at_ns,
        .flags = source->flags,
        .self = UINT32_MAX,
        .pop_count = (uint32_t)source->pop_count,
        .load_count = (uint32_t)source->load_count,
    };
    const uint32_t *rows = pops_place(arena, source, mesh);
    struct mesh_load *loads = (struct mesh_load *)(uintptr_t)all_loads(mesh);
    for (size_t i = 0; i < source->load_count; i++) {
        loads[i] = source->loads[i];
        loads[i].pop = loads[i].pop < source->pop_count ? rows[loads[i].pop] : UINT32_MAX;
    }
    if (source->load_count > 1)
        qsort(loads, source->load_count, sizeof *loads, order_loads);
    *ret_bytes = (struct slice){ (const char *)mesh, bytes };
    return mesh_check(*ret_bytes, err) < 0 ? err_wrap(err, "building the mesh") : 0;
}

/* ---- checking ------------------------------------------------------------------------------- */

static int head_check(struct slice bytes, struct err *err)
{
    const struct mesh_head *mesh = (const struct mesh_head *)(const void *)bytes.data;
    if (bytes.size < sizeof *mesh || bytes.size > MESH_BYTES_MAX || (uintptr_t)mesh % 8 != 0)
        return err_set(err, ERR_BAD_INPUT, "mesh: %zu bytes are none", bytes.size);
    if (mesh->magic != MESH_MAGIC || mesh->version != MESH_VERSION)
        return err_set(err, ERR_BAD_INPUT, "mesh: of another kind or version (%x, %u)", mesh->magic,
                       mesh->version);
    if (mesh->pop_count > MESH_POPS_MAX || mesh->load_count > MESH_LOADS_MAX ||
        mesh->bytes != bytes.size || bytes_of(mesh->pop_count, mesh->load_count) != bytes.size)
        return err_set(err, ERR_BAD_INPUT, "mesh: %u PoPs and %u loads are not %zu bytes",
                       mesh->pop_count, mesh->load_count, bytes.size);
    if (mesh->self != UINT32_MAX && mesh->self >= mesh->pop_count)
        return err_set(err, ERR_BAD_INPUT, "mesh: this PoP's row is outside");
    return 0;
}

static bool ms_right(float ms)
{
    return (ms >= 0 && ms <= MESH_MS_MAX) || (isinf(ms) && ms > 0);
}

static int pop_check(const struct mesh_head *mesh, uint32_t row, struct err *err)
{
    const struct mesh_pop *pop = &mesh_pops(mesh)[row];
    if (!memchr(pop->name, 0, sizeof pop->name) || pop->name[0] == '\0' ||
        pop->health > MESH_DOWN || pop->calm > 1 || pop->elsewhere > 1 ||
        !(isnan(pop->rtt_ms) || (pop->rtt_ms >= 0 && pop->rtt_ms <= MESH_MS_MAX)))
        return err_set(err, ERR_BAD_INPUT, "mesh: PoP %u is out of range", row);
    if (row > 0 && slice_order(name_of(pop - 1), name_of(pop)) >= 0)
        return err_set(err, ERR_BAD_INPUT, "mesh: PoP %u is out of order", row);
    return 0;
}

static int load_check(const struct mesh_head *mesh, uint32_t row, struct err *err)
{
    const struct mesh_load *load = &all_loads(mesh)[row];
    if (load->pop >= mesh->pop_count || !ms_right(load->wait_ms) || !ms_right(load->start_ms) ||
        !(load->service_ms >= 0 && load->service_ms <= MESH_MS_MAX) ||
        !(load->weight >= 0 && load->weight <= MESH_WEIGHT_MAX) ||
        !(load->last_start_ms >= 0 && load->last_start_ms <= MESH_MS_MAX))
        return err_set(err, ERR_BAD_INPUT, "mesh: load %u is out of range", row);
    if (row > 0 && order_loads(load - 1, load) >= 0)
        return err_set(err, ERR_BAD_INPUT, "mesh: load %u is out of order", row);
    return 0;
}

int mesh_check(struct slice bytes, struct err *err)
{
    int r = head_check(bytes, err);
    if (r < 0)
        return r;
    const struct mesh_head *mesh = (const struct mesh_head *)(const void *)bytes.data;
    for (uint32_t i = 0; i < mesh->pop_count && r == 0; i++)
        r = pop_check(mesh, i, err);
    for (uint32_t i = 0; i < mesh->load_count && r == 0; i++)
        r = load_check(mesh, i, err);
    return r;
}

/* ---- reading -------------------------------------------------------------------------------- */

const struct mesh_pop *mesh_find_pop(const struct mesh_head *mesh, struct slice name)
{
    const struct mesh_pop *pops = mesh_pops(mesh);
    uint32_t low = 0, high = mesh->pop_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = slice_order(name, name_of(&pops[middle]));
        if (order == 0)
            return &pops[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* The first that is not before it. */
static uint32_t loads_from(const struct mesh_head *mesh, uint64_t endpoint)
{
    const struct mesh_load *loads = all_loads(mesh);
    uint32_t low = 0, high = mesh->load_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (loads[middle].endpoint < endpoint)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct mesh_load *mesh_loads(const struct mesh_head *mesh, uint64_t endpoint,
                                   size_t *ret_count)
{
    uint32_t first = loads_from(mesh, endpoint);
    uint32_t end = endpoint < UINT64_MAX ? loads_from(mesh, endpoint + 1) : mesh->load_count;
    *ret_count = end - first;
    return all_loads(mesh) + first;
}

const struct mesh_load *mesh_load_at(const struct mesh_load *loads, size_t count, uint32_t pop)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (loads[middle].pop == pop)
            return &loads[middle];
        if (loads[middle].pop < pop)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

float mesh_last_start_ms(const struct mesh_load *loads, size_t count)
{
    float longest = 0;
    for (size_t i = 0; i < count; i++)
        longest = loads[i].last_start_ms > longest ? loads[i].last_start_ms : longest;
    return longest;
}

bool mesh_fresh(const struct mesh_head *mesh, int64_t now_ns)
{
    return mesh && !(mesh->flags & MESH_BLIND) && now_ns - mesh->at_ns < MESH_FRESH_NS;
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* More than a tenth, and more than what nobody notices. */
static bool moved(float a, float b, float least)
{
    if (isnan(a) || isnan(b))
        return isnan(a) != isnan(b);
    if (isinf(a) || isinf(b))
        return isinf(a) != isinf(b);
    float more = a > b ? a : b, difference = fabsf(a - b);
    return difference > least && difference > more / 10;
}

bool mesh_health_differs(const struct mesh_head *a, const struct mesh_head *b)
{
    if (a->pop_count != b->pop_count || a->flags != b->flags || a->self != b->self)
        return true;
    for (uint32_t i = 0; i < a->pop_count; i++) {
        const struct mesh_pop *x = &mesh_pops(a)[i], *y = &mesh_pops(b)[i];
        if (x->health != y->health || x->calm != y->calm || x->elsewhere != y->elsewhere ||
            strcmp(x->name, y->name) != 0)
            return true;
    }
    return false;
}

bool mesh_differs(const struct mesh_head *a, const struct mesh_head *b)
{
    if (a->load_count != b->load_count || mesh_health_differs(a, b))
        return true;
    for (uint32_t i = 0; i < a->pop_count; i++)
        if (moved(mesh_pops(a)[i].rtt_ms, mesh_pops(b)[i].rtt_ms, 0.5f))
            return true;
    for (uint32_t i = 0; i < a->load_count; i++) {
        const struct mesh_load *x = &all_loads(a)[i], *y = &all_loads(b)[i];
        if (x->endpoint != y->endpoint || x->pop != y->pop || moved(x->wait_ms, y->wait_ms, 0.2f) ||
            moved(x->service_ms, y->service_ms, 0.2f) || moved(x->start_ms, y->start_ms, 1) ||
            moved(x->weight, y->weight, 0.5f) || moved(x->last_start_ms, y->last_start_ms, 1))
            return true;
    }
    return false;
}
