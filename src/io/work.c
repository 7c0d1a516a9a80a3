/* SPDX-License-Identifier: Apache-2.0 */
#include "io/work.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "base/auto.h"

struct work_pool {
    pthread_mutex_t lock; /* of jobs and closing */
    pthread_cond_t wake;
    struct list jobs; /* of struct work */
    bool closing;
    unsigned thread_count;
    char name[12];
    pthread_t threads[];
};

static void on_done_message(void *data)
{
    struct work *work = data;
    work->on_done(work, work->canceled);
}

static void work_finish(struct work *work, bool canceled)
{
    work->canceled = canceled;
    work->message = (struct loop_message){ .fn = on_done_message, .data = work };
    loop_send(work->loop, &work->message);
}

static void *thread_run(void *data)
{
    struct work_pool *pool = data;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct work *work = LIST_FIRST(&pool->jobs, struct work, link);
        if (work) {
            list_remove(&work->link);
            pthread_mutex_unlock(&pool->lock);
            work->run(work);
            work_finish(work, false);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->closing) {
            break;
        } else {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct work_pool *work_pool_new(const char *name, unsigned threads)
{
    struct work_pool *pool = mem_zalloc(sizeof *pool + threads * sizeof *pool->threads);
    sigset_t all, before;
    assert(threads > 0);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    list_init(&pool->jobs);
    pool->thread_count = threads;
    snprintf(pool->name, sizeof pool->name, "%s", name);
    /* Signals are for the thread that asked for them, never for these. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&pool->threads[i], NULL, thread_run, pool))
            mem_abort(0); /* no thread is no memory */
        pthread_setname_np(pool->threads[i], pool->name);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool;
}

void work_pool_free(struct work_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    while (!list_empty(&pool->jobs)) {
        struct work *work = LIST_FIRST(&pool->jobs, struct work, link);
        list_remove(&work->link);
        work_finish(work, true);
    }
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void work_submit(struct work_pool *pool, struct loop *loop, struct work *work)
{
    work->loop = loop;
    list_init(&work->link);
    pthread_mutex_lock(&pool->lock);
    assert(!pool->closing);
    struct list *place = pool->jobs.previous; /* behind which it waits */
    while (!work->later && place != &pool->jobs && LIST_OWNER(place, struct work, link)->later)
        place = place->previous;
    list_insert_after(place, &work->link);
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void work_cancel(struct work_pool *pool, struct work *work)
{
    pthread_mutex_lock(&pool->lock);
    bool waiting = !list_empty(&work->link);
    list_remove(&work->link);
    pthread_mutex_unlock(&pool->lock);
    if (waiting)
        work_finish(work, true);
}
