/* SPDX-License-Identifier: Apache-2.0 */
/* Other registries as they were told of, and how one is asked. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "control/abroad_own.h"
#include "control/control_own.h"
#include "control/request.h"
#include "io/timer.h"
#include "io/work.h"
#include "store/seal.h"
#include "store/store.h"

enum { ASK_THREADS = 4 };

int abroad_open(struct control *control, struct err *err)
{
    struct abroad *abroad = control->abroad = mem_zalloc(sizeof *abroad);
    abroad->arena = arena_new();
    abroad->labels_arena = arena_new();
    list_init(&abroad->running);
    return control->store->registry_list(control->store, abroad->arena, &abroad->rows,
                                         &abroad->count, err);
}

struct work_pool *abroad_ask_pool(struct control *control)
{
    struct abroad *abroad = control->abroad;
    if (!abroad->ask_pool)
        abroad->ask_pool = work_pool_new("ask", ASK_THREADS);
    return abroad->ask_pool;
}

struct work_pool *abroad_copy_pool(struct control *control)
{
    struct abroad *abroad = control->abroad;
    if (!abroad->copy_pool)
        abroad->copy_pool = work_pool_new("copy", COPIES_AT_ONCE);
    return abroad->copy_pool;
}

void abroad_stop(struct control *control)
{
    if (!control->abroad)
        return;
    atomic_store(&control->abroad->stop, true);
    copies_stop(control->abroad);
    timer_free(take_ptr(control->abroad->timer));
}

void abroad_close(struct control *control)
{
    struct abroad *abroad = take_ptr(control->abroad);
    if (!abroad)
        return;
    work_pool_free(abroad->ask_pool);
    work_pool_free(abroad->copy_pool);
    copies_close(abroad);
    map_deinit(&abroad->labels);
    arena_free(abroad->labels_arena);
    arena_free(abroad->arena);
    free(abroad);
}

struct slice abroad_label(struct abroad *abroad, struct slice host)
{
    struct slice *label = map_get(&abroad->labels, host);
    if (label)
        return *label;
    if (abroad->labels.count == LABELS_MAX)
        return SLICE("other");
    label = ARENA_NEW(abroad->labels_arena, struct slice);
    *label = arena_copy(abroad->labels_arena, host);
    (void)map_put(&abroad->labels, *label, label);
    return *label;
}

/* ---- registries told of ---------------------------------------------------------------------- */

const struct store_registry *abroad_row(const struct control *control, struct slice host)
{
    const struct abroad *abroad = control->abroad;
    for (size_t i = 0; i < abroad->count; i++)
        if (slice_equal_nocase(abroad->rows[i].host, host))
            return &abroad->rows[i];
    return NULL;
}

size_t abroad_rows(const struct control *control, const struct store_registry **ret)
{
    *ret = control->abroad->rows;
    return control->abroad->count;
}

void abroad_told(struct control *control, struct arena *arena, struct store_registry *rows,
                 size_t count, struct slice host)
{
    struct abroad *abroad = control->abroad;
    struct arena *old = abroad->arena;
    abroad->arena = arena;
    abroad->rows = rows;
    abroad->count = count;
    copies_again(control, host);
    arena_free(old);
}

struct slice abroad_purpose(struct arena *arena, struct slice host)
{
    return slice_of(arena_format(arena, SEAL_FOR_PASSWORD "%.*s", SLICE_FMT(host)));
}

/* ---- one that is to be asked ----------------------------------------------------------------- */

void abroad_ask(struct control *control, struct arena *arena, struct slice host,
                struct abroad_ask *ret)
{
    const struct store_registry *row = abroad_row(control, host);
    const char *name = arena_lower(arena, host);
    *ret = (struct abroad_ask){
        .home = control->start.home,
        .blobs = control->blobs,
        .stop = &control->abroad->stop,
        .registry = { .host = name, .plain = row ? row->plain : elsewhere_is_loopback(host) },
    };
    if (!row)
        return;
    ret->registry.username = arena_copy(arena, row->username);
    ret->registry.ca = arena_copy(arena, row->ca);
    ret->sealed = arena_copy(arena, row->sealed);
}

int abroad_unseal(struct abroad_ask *ask, struct arena *secret, struct err *err)
{
    const struct seal_key *key;
    if (!ask->sealed.size)
        return 0;
    int r = seal_key_load(arena_format(secret, "%s/" SEAL_KEY_FILE, ask->home), false, secret, &key,
                          err);
    if (r == 0)
        r = seal_open(key, abroad_purpose(secret, slice_of(ask->registry.host)), ask->sealed,
                      secret, &ask->registry.password, err);
    return r < 0 ? err_wrap(err, "the password kept for %s", ask->registry.host) : 0;
}

void abroad_refuse(struct request *q, const struct err *err)
{
    if (err_http(err) < 500 || err->code == ERR_CANCELED || err->code == ERR_NOT_SUPPORTED)
        request_fail(q, err);
    else
        request_refuse(q, ERR_OVERLOADED, "%s", err->message);
}
