/* SPDX-License-Identifier: Apache-2.0 */
/* An endpoint as the store has it, whole. */
#include "base/arena.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/secrets.h"

int snapshot_load(struct store *store, uint64_t uid, struct snapshot **ret, struct err *err)
{
    struct arena *arena = arena_new();
    struct snapshot *s = ARENA_NEW(arena, struct snapshot);
    yyjson_val *tree;
    s->arena = arena;
    int r = store->endpoint_get(store, uid, arena, &s->row, err);
    if (r == 0)
        r = store->revision_list(store, uid, arena, &s->revisions, &s->revision_count, err);
    if (r == 0)
        r = store->death_list(store, uid, arena, &s->deaths, &s->death_count, err);
    if (r == 0)
        r = store->origin_of(store, uid, arena, &s->origins, &s->origin_count, err);
    if (r == 0)
        r = json_parse(arena, s->row.spec, NULL, &tree, err);
    if (r == 0)
        r = endpoint_spec_parse(arena, tree, SPEC_KEEP_UNKNOWN, &s->spec, err);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    secrets_named(s);
    *ret = s;
    return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot)
        arena_free(snapshot->arena);
}

bool snapshot_waits(const struct snapshot *snapshot, uint64_t number)
{
    for (size_t i = 0; i < snapshot->origin_count; i++)
        if (snapshot->origins[i].number == number)
            return true;
    return false;
}

static bool is_here(const struct snapshot *snapshot, uint64_t number)
{
    return number && snapshot_revision(snapshot, number) && !snapshot_waits(snapshot, number);
}

uint64_t snapshot_target(const struct snapshot *snapshot)
{
    const struct store_endpoint *row = &snapshot->row;
    uint64_t newest = 0;
    if (!snapshot_waits(snapshot, row->target))
        return row->target;
    if (is_here(snapshot, row->serving))
        return row->serving;
    if (is_here(snapshot, row->stable))
        return row->stable;
    for (size_t i = 0; i < snapshot->revision_count; i++)
        if (is_here(snapshot, snapshot->revisions[i].number))
            newest = snapshot->revisions[i].number;
    return newest;
}

const struct store_revision *snapshot_revision(const struct snapshot *snapshot, uint64_t number)
{
    for (size_t i = 0; i < snapshot->revision_count; i++)
        if (snapshot->revisions[i].number == number)
            return &snapshot->revisions[i];
    return NULL;
}
