/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The role: START, LISTENERs, GO from the supervisor; READY to it; then HTTP on one loop until
 * DRAIN, or until the lifeline says that the supervisor has gone.
 */
#include "control/control.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "control/abroad.h"
#include "control/control_own.h"
#include "control/keys.h"
#include "control/request.h"
#include "control/secrets.h"
#include "control/watch.h"
#include "geo/where.h"
#include "http/server.h"
#include "http/trust.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "io/work.h"
#include "store/blobs.h"
#include "sys/channel.h"
#include "sys/env_linux.h"
#include "sys/fd.h"

enum {
    TICK_MS = 5'000,
    FIRST_TICK_MS = 300, /* and again until addresses.json is written: it says the urls */
    FIRST_TICKS_MAX = 100,
    SWEEP_TICKS = 60, /* every five minutes */
    SWEEP_FIRST_TICK = 6,
    DRAIN_MS_MIN = 100,
    ANEW_MS = 1000, /* for what is under way */
    DISK_THREADS = 2,
};

/* ---- ending --------------------------------------------------------------------------------- */

static void stop(struct control *control)
{
    loop_stop(control->loop);
}

static void on_drained(void *data)
{
    stop(data);
}

static void on_drain_late(void *data)
{
    stop(data);
}

static void drain(struct control *control, uint32_t within_ms, uint32_t idle_ms)
{
    if (control->draining)
        return;
    control->draining = true;
    if (!control->server) {
        stop(control);
        return;
    }
    watch_end_all(control);
    http_server_drain(control->server, idle_ms, on_drained, control);
    timer_free(control->tick);
    control->tick = timer_new(control->loop, on_drain_late, control);
    timer_start(control->tick, within_ms > DRAIN_MS_MIN ? within_ms : DRAIN_MS_MIN);
}

void control_anew(struct control *control)
{
    if (control->draining || control->closing)
        return;
    log_error("control", "the disk failed at a commit, which may be there or not: "
                         "this process ends, and the next one reads what is there");
    control->anew = true;
    drain(control, ANEW_MS, 0);
}

/* ---- serving -------------------------------------------------------------------------------- */

static void on_tick(void *data)
{
    struct control *control = data;
    watch_ping(control);
    hub_tick(control);
    if (!control->hub.gateway && control->first_ticks++ < FIRST_TICKS_MAX) {
        timer_start(control->tick, FIRST_TICK_MS);
        return;
    }
    if (control->ticks++ % SWEEP_TICKS == SWEEP_FIRST_TICK)
        control_sweep(control);
    timer_start(control->tick, TICK_MS);
}

static void tell(struct control *control, const void *message, size_t size)
{
    struct err err;
    if (channel_send(control->channel, message, size, NULL, 0, &err) < 0)
        log_warn("control", "message not sent", LOG_S("error", err.message));
    watch_set(control->channel_watch,
              WATCH_READ | (channel_wants_write(control->channel) ? WATCH_WRITE : 0));
}

static void go(struct control *control)
{
    static const struct http_server_events events = { request_on_head, request_on_refusal };
    struct http_server_limits limits = http_server_limits_default();
    struct err err;
    if (control->serving)
        return;
    if (control_open(control, &err) < 0) {
        log_error("control", "cannot start", LOG_S("error", err.message));
        control->failed = true;
        stop(control);
        return;
    }
    control->write_pool = work_pool_new("store", 1);
    control->read_pool = work_pool_new("reader", 1);
    control->disk_pool = work_pool_new("disk", DISK_THREADS);
    control->server = http_server_new(control->loop, &limits, &events, control);
    control->trust = trust_of_environment();
    http_server_set_trust(control->server, control->trust);
    for (size_t i = 0; i < control->listener_count; i++)
        if (control->in_home[i])
            http_server_listen_trusted(control->server, control->listeners[i]);
        else
            http_server_listen(control->server, control->listeners[i]);
    control->tick = timer_new(control->loop, on_tick, control);
    timer_start(control->tick, FIRST_TICK_MS);
    control->serving = true;
    copies_look(control);
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    tell(control, &ready, sizeof ready);
    log_info("control", "serving", LOG_U("endpoints", control->hub.by_uid.count),
             LOG_U("listeners", control->listener_count));
}

/* ---- the supervisor ------------------------------------------------------------------------- */

static void add_listener(struct control *control, const struct message_listener *said, int *fd)
{
    if (said->kind != LISTENER_CONTROL || control->listener_count == CONTROL_LISTENERS_MAX)
        return;
    struct address *address = &control->addresses[control->listener_count];
    if (address_parse(slice_of(said->address), address, NULL) < 0)
        *address = (struct address){};
    control->in_home[control->listener_count] = trust_in_home(said->address, control->start.home);
    control->listeners[control->listener_count++] = take_fd(*fd);
}

static void on_message(struct control *control, const union message *message, int *fds,
                       size_t fd_count)
{
    switch (message->head.type) {
    case MESSAGE_START:
        control->start = message->as_MESSAGE_START;
        break;
    case MESSAGE_LISTENER:
        if (fd_count)
            add_listener(control, &message->as_MESSAGE_LISTENER, &fds[0]);
        break;
    case MESSAGE_GO:
        go(control);
        break;
    case MESSAGE_DRAIN:
        drain(control, message->as_MESSAGE_DRAIN.within_ms, message->as_MESSAGE_DRAIN.idle_ms);
        break;
    default:
        log_warn("control", "odd message, ignoring",
                 LOG_S("message", message_name(message->head.type)));
        break;
    }
}

static void on_channel(struct watch *watch, unsigned events, void *data)
{
    static union message message; /* one thread, and not re-entered */
    struct control *control = data;
    struct err err;
    if (events & WATCH_WRITE && channel_flush(control->channel, &err) < 0) {
        stop(control);
        return;
    }
    for (int i = 0; i < 64; i++) {
        size_t size, fd_count;
        int fds[CHANNEL_FDS_MAX];
        int r = channel_receive(control->channel, &message, sizeof message, &size, fds, &fd_count,
                                &err);
        if (r == 0)
            break;
        if (r < 0) { /* the supervisor has gone: so do we */
            stop(control);
            return;
        }
        if (message_check(&message, size, fd_count, &err) < 0)
            log_warn("control", "odd message, ignoring", LOG_S("error", err.message));
        else
            on_message(control, &message, fds, fd_count);
        for (size_t k = 0; k < fd_count; k++)
            fd_close(&fds[k]);
    }
    watch_set(watch, WATCH_READ | (channel_wants_write(control->channel) ? WATCH_WRITE : 0));
}

static void on_lifeline(struct watch *watch, unsigned events, void *data)
{
    (void)events;
    watch_set(watch, 0);
    stop(data);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void close_all(struct control *control)
{
    control->closing = true; /* a job that would follow one is called off */
    timer_free(control->tick);
    timer_free(take_ptr(control->place_timer)); /* jobs that end now touch it still */
    abroad_stop(control);
    http_server_free(control->server); /* exchanges end: their requests go, or wait for a job */
    while (control->jobs > 0)
        loop_run_once(control->loop, true);
    control_sweep_close(control);
    abroad_close(control);
    secrets_close(control);
    trust_free(control->trust);
    where_map_free(control->where);
    work_pool_free(control->write_pool);
    work_pool_free(control->read_pool);
    work_pool_free(control->disk_pool);
    if (control->store)
        control->store->close(control->store);
    if (control->reader)
        control->reader->close(control->reader);
    blobs_close(control->blobs);
    keys_close(control);
    hub_close(control);
    metrics_deinit(&control->metrics);
    arena_free(control->sets_arena);
    free(control->metrics_memory);
    watch_free(control->channel_watch);
    watch_free(control->lifeline_watch);
    channel_free(control->channel);
    fd_close(&control->lifeline_fd);
    for (size_t i = 0; i < control->listener_count; i++)
        fd_close(&control->listeners[i]);
    env_linux_free(control->env_linux);
    loop_free(control->loop);
}

int control_main(int channel_fd, int lifeline_fd)
{
    struct err err;
    struct control *control = mem_zalloc(sizeof *control);
    list_init(&control->watchers);
    list_init(&control->pasts);
    list_init(&control->goings);
    control->lifeline_fd = lifeline_fd;
    if (env_linux_new(&control->env_linux, &err) < 0) {
        log_error("control", "cannot start", LOG_S("error", err.message));
        free(control);
        return 1;
    }
    control->env = env_linux_env(control->env_linux);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* best effort: the lifeline says it too */
    (void)signal(SIGPIPE, SIG_IGN);
    control->loop = loop_new();
    control->metrics_memory = mem_zalloc(metrics_bytes(CONTROL_SERIES_MAX));
    metrics_attach(&control->metrics, &control_metrics, control->metrics_memory,
                   metrics_bytes(CONTROL_SERIES_MAX));
    control->channel = channel_new(channel_fd);
    control->channel_watch = watch_new(control->loop, channel_fd, WATCH_READ, on_channel, control);
    control->lifeline_watch =
        watch_new(control->loop, lifeline_fd, WATCH_READ | WATCH_HANGUP, on_lifeline, control);
    loop_run(control->loop);
    int status = control->failed ? ROLE_EXIT_HOPELESS : control->anew ? 1 : 0;
    close_all(control);
    free(control);
    return status;
}
