/* SPDX-License-Identifier: Apache-2.0 */
#include "io/timer.h"

#include <uv.h>

#include "base/auto.h"
#include "io/loop.h"

struct timer {
    uv_timer_t uv;
    void (*on_expired)(void *data);
    void *data;
};

static void on_uv_timer(uv_timer_t *uv)
{
    struct timer *timer = uv->data;
    timer->on_expired(timer->data);
}

static void on_uv_closed(uv_handle_t *uv)
{
    free(uv->data);
}

struct timer *timer_new(struct loop *loop, void (*on_expired)(void *data), void *data)
{
    struct timer *timer = mem_zalloc(sizeof *timer);
    uv_timer_init(loop_uv(loop), &timer->uv);
    timer->uv.data = timer;
    timer->on_expired = on_expired;
    timer->data = data;
    return timer;
}

void timer_free(struct timer *timer)
{
    if (timer)
        uv_close((uv_handle_t *)&timer->uv, on_uv_closed);
}

void timer_start(struct timer *timer, int64_t ms)
{
    uv_timer_start(&timer->uv, on_uv_timer, ms > 0 ? (uint64_t)ms : 0, 0);
}

void timer_stop(struct timer *timer)
{
    uv_timer_stop(&timer->uv);
}

bool timer_running(const struct timer *timer)
{
    return uv_is_active((const uv_handle_t *)&timer->uv);
}
