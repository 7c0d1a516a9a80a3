/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doors of control and agents to the world, wrapped by the linker (--wrap): timers and the
 * loop's clock are the world's; a job of a pool takes its time, and ends only while its control
 * lives; a table goes to the PoP's gateway.
 */
#include <stdlib.h>
#include <string.h>

#include "fleet.h"
#include "io/loop.h"
#include "io/timer.h"
#include "io/work.h"

struct fleet *fleet_now;

/* ---- timers and clocks ----------------------------------------------------------------------- */

struct timer {
    struct env_timer timer;
    void (*on_expired)(void *data);
    void *data;
};

struct timer *__wrap_timer_new(struct loop *loop, void (*on_expired)(void *data), void *data);
void __wrap_timer_free(struct timer *timer);
void __wrap_timer_start(struct timer *timer, int64_t ms);
void __wrap_timer_stop(struct timer *timer);
bool __wrap_timer_running(const struct timer *timer);
int64_t __wrap_loop_now_ms(const struct loop *loop);
int64_t __wrap_loop_now_ns(void);
void __wrap_work_submit(struct work_pool *pool, struct loop *loop, struct work *work);
int __wrap_shm_publish(const char *name, const void *data, size_t bytes, int *ret_fd,
                       struct err *err);
bool __wrap_wire_send(struct wire *wire, const void *message, size_t size, int fd);
void __wrap_agent_mesh_changed(struct agent *agent);

struct timer *__wrap_timer_new(struct loop *, void (*on_expired)(void *data), void *data)
{
    struct timer *timer = mem_zalloc(sizeof *timer);
    timer->on_expired = on_expired;
    timer->data = data;
    return timer;
}

void __wrap_timer_free(struct timer *timer)
{
    if (timer)
        env_timer_stop(fleet_now->env, &timer->timer);
    free(timer);
}

static void on_timer(struct env_timer *, void *data)
{
    struct timer *timer = data;
    timer->on_expired(timer->data);
}

void __wrap_timer_start(struct timer *timer, int64_t ms)
{
    env_timer_start(fleet_now->env, &timer->timer, ms * ENV_MS, on_timer, timer);
}

void __wrap_timer_stop(struct timer *timer)
{
    env_timer_stop(fleet_now->env, &timer->timer);
}

bool __wrap_timer_running(const struct timer *timer)
{
    return env_timer_armed(&timer->timer);
}

int64_t __wrap_loop_now_ms(const struct loop *)
{
    return env_now_ns(fleet_now->env) / ENV_MS;
}

int64_t __wrap_loop_now_ns(void)
{
    return env_now_ns(fleet_now->env);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static void on_work_done(struct fleet *fleet, void *data, uint64_t)
{
    struct work *work = data;
    list_remove(&work->link);
    work->on_done(work, false);
    (void)fleet;
}

/* Its result is on disk before it is known. */
static void on_work_run(struct fleet *fleet, void *data, uint64_t)
{
    struct work *work = data;
    work->run(work);
    fleet_after(fleet, 100 * ENV_US, &fleet->control_life, on_work_done, work, 0);
}

/* Those of one moment would overtake each other by chance: each takes as long. */
void __wrap_work_submit(struct work_pool *, struct loop *, struct work *work)
{
    list_append(&fleet_now->works, &work->link);
    if (!fleet_now->works_closed)
        fleet_after(fleet_now, ENV_MS, &fleet_now->control_life, on_work_run, work, 0);
}

/* ---- tables ---------------------------------------------------------------------------------- */

int __wrap_shm_publish(const char *, const void *data, size_t bytes, int *ret_fd, struct err *)
{
    struct table_copy *shown = &fleet_now->shown;
    free(shown->bytes);
    shown->bytes = mem_alloc(bytes);
    memcpy(shown->bytes, data, bytes);
    shown->size = bytes;
    *ret_fd = -1;
    return 0;
}

bool __wrap_wire_send(struct wire *wire, const void *message, size_t, int)
{
    const struct message_head *head = message;
    if (head->type == MESSAGE_TABLE_NEW)
        for (unsigned i = 0; i < SITES; i++)
            if (fleet_now->sites[i].agent == wire->agent)
                site_table_take(&fleet_now->sites[i], fleet_now->shown.bytes,
                                fleet_now->shown.size);
    return true;
}

/* What PoPs ask each other is played by fleet_traffic.c: at a tenth of what it costs, so that there
 * is time for worlds. */
void __wrap_agent_mesh_changed(struct agent *)
{
}
