/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libuv computes how long to poll after its prepare handles have run, so a timer or a deferred call
 * that on_sleep makes is not slept over. Its check handles run after the events of the pass.
 */
#include "io/sleeper.h"

#include <assert.h>
#include <uv.h>

#include "base/auto.h"
#include "io/loop.h"

struct sleeper {
    struct loop *loop;
    uv_prepare_t prepare;
    uv_check_t check;
    void (*on_sleep)(void *data);
    void (*on_wake)(void *data);
    void *data;
    unsigned closed;
};

static void on_prepare(uv_prepare_t *prepare)
{
    struct sleeper *sleeper = prepare->data;

    sleeper->on_sleep(sleeper->data);
    /* What that deferred need not cost a pass of its own; but it may have given work to others. */
    if (loop_run_deferred(sleeper->loop))
        sleeper->on_sleep(sleeper->data);
}

static void on_check(uv_check_t *check)
{
    struct sleeper *sleeper = check->data;

    sleeper->on_wake(sleeper->data);
}

struct sleeper *sleeper_new(struct loop *loop, void (*on_sleep)(void *data),
                            void (*on_wake)(void *data), void *data)
{
    struct sleeper *sleeper = mem_zalloc(sizeof *sleeper);

    sleeper->on_sleep = on_sleep;
    sleeper->on_wake = on_wake;
    sleeper->data = data;
    sleeper->loop = loop;
    sleeper->prepare.data = sleeper->check.data = sleeper;
    int r = uv_prepare_init(loop_uv(loop), &sleeper->prepare);
    r = r ? r : uv_check_init(loop_uv(loop), &sleeper->check);
    r = r ? r : uv_prepare_start(&sleeper->prepare, on_prepare);
    r = r ? r : uv_check_start(&sleeper->check, on_check);
    assert(r == 0);
    (void)r;
    uv_unref((uv_handle_t *)&sleeper->prepare);
    uv_unref((uv_handle_t *)&sleeper->check);
    return sleeper;
}

static void on_closed(uv_handle_t *handle)
{
    struct sleeper *sleeper = handle->data;

    if (++sleeper->closed == 2)
        free(sleeper);
}

void sleeper_free(struct sleeper *sleeper)
{
    if (!sleeper)
        return;
    uv_close((uv_handle_t *)&sleeper->prepare, on_closed);
    uv_close((uv_handle_t *)&sleeper->check, on_closed);
}
