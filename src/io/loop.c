/* SPDX-License-Identifier: Apache-2.0 */
/* Posts are a stack of atomics, so that no poster ever waits for another; the loop takes the whole
 * stack at once and turns it round. Deferred calls run in libuv's check phase, right after the
 * events of this pass, or before its poll where a sleeper asks; an idle handle keeps the next poll
 * from sleeping while there are any. */
#include "io/loop.h"

#include <assert.h>
#include <time.h>
#include <uv.h>

#include "base/auto.h"

struct loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_check_t check;
    uv_idle_t idle;
    struct list tasks;
    _Atomic(struct loop_message *) posted;
};

/* What loop_post() allocates. */
struct post {
    struct loop_message message;
    void (*fn)(void *data);
    void *data;
};

static void post_run(void *data)
{
    struct post post = *(struct post *)data;
    free(data);
    post.fn(post.data);
}

static struct loop_message *posted_take(struct loop *loop)
{
    struct loop_message *newest =
        atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct loop_message *oldest = NULL;
    while (newest) {
        struct loop_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void on_async(uv_async_t *async)
{
    struct loop *loop = async->data;
    for (struct loop_message *message = posted_take(loop), *next; message; message = next) {
        next = message->next;
        message->fn(message->data);
    }
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* being active is all it does */
}

bool loop_run_deferred(struct loop *loop)
{
    if (list_empty(&loop->tasks))
        return false;
    /* What is deferred from here on runs in the next pass, so that events are not starved. */
    struct list now;
    list_init(&now);
    list_insert_after(loop->tasks.previous, &now);
    list_remove(&loop->tasks);
    while (!list_empty(&now)) {
        struct loop_task *task = LIST_OWNER(now.next, struct loop_task, link);
        list_remove(&task->link);
        task->fn(task->data);
    }
    if (list_empty(&loop->tasks))
        uv_idle_stop(&loop->idle);
    return true;
}

static void on_check(uv_check_t *check)
{
    (void)loop_run_deferred(check->data);
}

struct loop *loop_new(void)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    list_init(&loop->tasks);
    int r = uv_loop_init(&loop->uv);
    r = r ? r : uv_async_init(&loop->uv, &loop->async, on_async);
    r = r ? r : uv_check_init(&loop->uv, &loop->check);
    r = r ? r : uv_idle_init(&loop->uv, &loop->idle);
    r = r ? r : uv_check_start(&loop->check, on_check);
    if (r)
        mem_abort(sizeof *loop); /* no descriptors or no memory: nothing can run */
    loop->async.data = loop->check.data = loop->idle.data = loop;
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    for (struct loop_message *message = posted_take(loop), *next; message; message = next) {
        next = message->next;
        if (message->fn == post_run)
            free(message->data);
        else /* a message lives in what it is about (a job that is done, say), so that is there */
            message->fn(message->data);
    }
    uv_close((uv_handle_t *)&loop->async, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    /* Streams that are closing report their last writes from deferred tasks: check goes last. */
    uv_unref((uv_handle_t *)&loop->check);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int r = uv_loop_close(&loop->uv);
    assert(r == 0); /* somebody left a handle open */
    (void)r;
    free(loop);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_run_once(struct loop *loop, bool wait)
{
    uv_run(&loop->uv, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

int64_t loop_now_ms(const struct loop *loop)
{
    return (int64_t)uv_now(&loop->uv);
}

int64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

int64_t loop_wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec;
}

void loop_send(struct loop *loop, struct loop_message *message)
{
    struct loop_message *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do
        message->next = head;
    while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head, message,
                                                  memory_order_release, memory_order_relaxed));
    /* Not the first: whoever was first has woken the loop, or is about to. */
    if (!head)
        uv_async_send(&loop->async);
}

void loop_post(struct loop *loop, void (*fn)(void *data), void *data)
{
    struct post *post = mem_alloc(sizeof *post);
    *post = (struct post){ .message = { .fn = post_run, .data = post }, .fn = fn, .data = data };
    loop_send(loop, &post->message);
}

void loop_task_init(struct loop_task *task, void (*fn)(void *data), void *data)
{
    *task = (struct loop_task){ .fn = fn, .data = data };
    list_init(&task->link);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    if (loop_task_waiting(task))
        return;
    if (list_empty(&loop->tasks) && !uv_is_closing((uv_handle_t *)&loop->idle))
        uv_idle_start(&loop->idle, on_idle);
    list_append(&loop->tasks, &task->link);
}

void loop_task_cancel(struct loop_task *task)
{
    list_remove(&task->link);
}

struct uv_loop_s *loop_uv(struct loop *loop)
{
    return &loop->uv;
}
