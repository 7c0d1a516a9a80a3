/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a folder of its own for each test, and calls inside a transaction. */
#pragma once

#include "folder.h"

#include "base/arena.h"
#include "base/err.h"
#include "store/store.h"

struct fixture {
    char folder[FOLDER_BYTES], path[128];
    struct store *store;
    struct arena *arena;
};

static struct err failure;
#define OK(call)                                                                                   \
    do {                                                                                           \
        failure.message[0] = '\0';                                                                 \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, failure.message);                                            \
    } while (0)

static inline int case_begin(void **state, const struct store_limits *limits)
{
    struct fixture *f = calloc(1, sizeof *f);
    folder_make(f->folder);
    snprintf(f->path, sizeof f->path, "%s/store.db", f->folder);
    f->arena = arena_new();
    OK(store_sqlite_open(f->path, STORE_WRITE, limits, &f->store, &failure));
    *state = f;
    return 0;
}

static inline int case_end(void **state)
{
    struct fixture *f = *state;
    if (f->store) /* a test may have closed it */
        f->store->close(f->store);
    arena_free(f->arena);
    int r = folder_remove(f->folder);
    free(f);
    return r;
}

/* A function inside a transaction. */
struct call {
    struct fixture *f;
    int (*fn)(struct fixture *f, struct store *s, struct err *err);
};

static inline int call_run(struct store *store, void *data, struct err *err)
{
    struct call *call = data;
    return call->fn(call->f, store, err);
}

static inline int inside(struct fixture *f,
                         int (*fn)(struct fixture *, struct store *, struct err *), struct err *err)
{
    struct call call = { f, fn };
    return f->store->transact(f->store, call_run, &call, err);
}
