/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/box.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "fleet/desk.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/listen.h"
#include "sys/spawn.h"

enum { READY_LOOK_MS = 20, AGAIN_MS = 1000, ARGUMENTS_MAX = 64 };

struct tree {
    struct box *box;
    const struct box_tree *row;
    uint64_t process;
    bool running, killed, ready;
    bool revived; /* killed, and to start again once it is reaped */
    struct env_timer again;
};

struct box {
    const struct box_config *config;
    struct loop *loop;
    struct env_linux *world;
    struct watch *world_watch, *signal_watch;
    struct timer *look;
    struct relay *relay;
    struct desk *desk;
    struct listen_set desk_set;
    struct tree *trees;
    size_t tree_count;
    int signal_fd;
    unsigned stops, round;
    bool ready;
    struct err err; /* why it ends by itself; code 0: it does not */
};

static struct env *env_of(const struct box *box)
{
    return env_linux_env(box->world);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void end_if_ended(struct box *box)
{
    for (size_t i = 0; i < box->tree_count; i++)
        if (box->trees[i].running)
            return;
    if (box->stops)
        loop_stop(box->loop);
}

static void stop(struct box *box)
{
    bool again = box->stops++ > 0;
    timer_stop(box->look);
    for (size_t i = 0; i < box->tree_count; i++) {
        env_timer_stop(env_of(box), &box->trees[i].again);
        if (box->trees[i].running)
            env_process_kill(env_of(box), box->trees[i].process, again ? SIGKILL : SIGTERM);
    }
    end_if_ended(box);
}

static void fail(struct box *box, const struct err *err)
{
    if (!box->err.code)
        box->err = *err;
    if (!box->stops)
        stop(box);
}

/* ---- trees ---------------------------------------------------------------------------------- */

static void tree_start(struct tree *tree);

static void on_again(struct env_timer *timer, void *data)
{
    (void)timer;
    tree_start(data);
}

static void on_exit_(uint64_t process, const struct env_exit *exit, void *data)
{
    struct tree *tree = data;
    struct box *box = tree->box;
    struct err err;
    (void)process;
    tree->running = tree->ready = false;
    if (box->stops) {
        end_if_ended(box);
    } else if (!box->ready && !tree->killed && !tree->revived) {
        (void)err_set(&err, ERR_INTERNAL, "'%s' ended while it started; it has said why",
                      tree->row->name);
        fail(box, &err);
    } else if (tree->revived) {
        tree->revived = false;
        tree_start(tree);
    } else if (tree->killed) {
        log_info("fleet", "a PoP was killed", LOG_S("pop", tree->row->name));
    } else {
        log_error("fleet", "a tree ended, starting it again", LOG_S("name", tree->row->name),
                  LOG_I("status", exit->code), LOG_I("signal", exit->signal));
        env_timer_start(env_of(box), &tree->again, AGAIN_MS * ENV_MS, on_again, tree);
    }
}

/* The box's own, then the tree's. */
static const char **environment_of(const struct tree *tree)
{
    const char *const *more = tree->row->environment;
    size_t own = 0, added = 0, count = 0;
    while (environ[own])
        own++;
    while (more && more[added])
        added++;
    const char **all = mem_zalloc((own + added + 1) * sizeof *all);
    for (size_t i = 0; i < added; i++)
        all[count++] = more[i]; /* of two of one name the first counts */
    for (size_t i = 0; i < own; i++)
        all[count++] = environ[i];
    return all;
}

static void tree_start(struct tree *tree)
{
    struct box *box = tree->box;
    const char *arguments[ARGUMENTS_MAX + 2] = { "perigee" };
    static const struct spawn_detail detail = { -1, -1, 0 };
    struct err err;
    if (tree->running || tree->killed || box->stops || tree->row->round > box->round)
        return;
    size_t count = 1;
    for (const char *const *at = tree->row->arguments; *at; at++) {
        assert(count <= ARGUMENTS_MAX);
        arguments[count++] = *at;
    }
    (void)unlink(tree->row->ready_file);
    tree->ready = false;
    auto_free const char **environment = environment_of(tree);
    struct env_spawn spawn = { SPAWN_SELF, arguments, environment, &detail };
    if (env_process_start(env_of(box), &spawn, on_exit_, tree, &tree->process, &err) < 0) {
        log_error("fleet", "a tree cannot be started", LOG_S("name", tree->row->name),
                  LOG_S("why", err.message));
        fail(box, &err);
        return;
    }
    tree->running = true;
    timer_start(box->look, READY_LOOK_MS);
}

static void round_start(struct box *box)
{
    for (size_t i = 0; i < box->tree_count; i++)
        if (box->trees[i].row->round == box->round)
            tree_start(&box->trees[i]);
}

static unsigned rounds_of(const struct box *box)
{
    unsigned rounds = 0;
    for (size_t i = 0; i < box->tree_count; i++)
        if (box->trees[i].row->round >= rounds)
            rounds = box->trees[i].row->round + 1;
    return rounds;
}

static void round_end(struct box *box)
{
    struct err err;
    int r = box->config->on_round(box->round, box->config->data, &err);
    if (r == 0 && ++box->round < rounds_of(box)) {
        round_start(box);
        return;
    }
    box->ready = true;
    if (r == 0)
        r = box->config->on_ready(box->config->data, &err);
    if (r < 0)
        fail(box, &err);
}

static void on_look(void *data)
{
    struct box *box = data;
    bool all = true;
    for (size_t i = 0; i < box->tree_count; i++) {
        struct tree *tree = &box->trees[i];
        if (tree->row->round > box->round)
            continue;
        if (tree->running && !tree->ready)
            tree->ready = access(tree->row->ready_file, F_OK) == 0;
        all = all && (tree->ready || tree->killed);
    }
    if (!all)
        timer_start(box->look, READY_LOOK_MS);
    if (all && !box->ready)
        round_end(box);
}

/* ---- the desk ------------------------------------------------------------------------------- */

/* There is one for each PoP. */
static struct tree *tree_of(struct box *box, size_t pop)
{
    for (size_t i = 0; i < box->tree_count; i++)
        if (box->trees[i].row->pop == pop)
            return &box->trees[i];
    return NULL;
}

static void on_kill(size_t pop, void *data)
{
    struct box *box = data;
    struct tree *tree = tree_of(box, pop);
    tree->killed = true;
    tree->revived = false;
    env_timer_stop(env_of(box), &tree->again);
    if (tree->running)
        env_process_kill(env_of(box), tree->process, SIGKILL);
}

/* The one before may not be reaped yet. */
static void on_revive(size_t pop, void *data)
{
    struct box *box = data;
    struct tree *tree = tree_of(box, pop);
    tree->killed = false;
    tree->revived = tree->running;
    if (!tree->running)
        tree_start(tree);
}

static struct desk_pop on_pop(size_t pop, void *data)
{
    struct box *box = data;
    const struct tree *tree = tree_of(box, pop);
    const struct box_config *config = box->config;
    struct desk_pop found = { tree->killed ? "killed" : tree->ready ? "up" : "starting", {} };
    for (size_t i = 0; i < config->port_count && !found.address.size; i++) {
        static char text[ADDRESS_TEXT_BYTES]; /* until the next call: it is written out at once */
        if (config->ports[i].pop == pop && !config->ports[i].control)
            found.address = slice_of(address_text(&config->ports[i].face, text));
    }
    return found;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void on_world(struct watch *watch, unsigned events, void *data)
{
    struct box *box = data;
    (void)watch;
    (void)events;
    env_linux_run(box->world, 0);
}

static void on_signal(struct watch *watch, unsigned events, void *data)
{
    struct box *box = data;
    struct signalfd_siginfo info;
    (void)watch;
    (void)events;
    while (read(box->signal_fd, &info, sizeof info) == sizeof info) {
        log_info("fleet", box->stops ? "ending at once" : "ending",
                 LOG_S("signal", strsignal((int)info.ssi_signo)));
        stop(box);
    }
}

static int watch_signals(struct box *box, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 ||
        (box->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return err_set(err, ERR_INTERNAL, "watching signals: %s", strerror(errno));
    box->signal_watch = watch_new(box->loop, box->signal_fd, WATCH_READ, on_signal, box);
    return 0;
}

/* Who has it, where that can be known, and what to do. */
static int port_taken(const struct box_port *port, struct err *err)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    char text[ADDRESS_TEXT_BYTES], owner[128] = "";
    size_t count;
    (void)address_text(&port->face, text);
    if (listen_parse(port->flag, text, addresses, &count, NULL) == 0)
        listen_owner(&addresses[0], false, owner, sizeof owner);
    return err_set(err, ERR_CONFLICT, "%s is taken%s; %s 127.0.0.1:PORT moves it", text, owner,
                   port->flag);
}

static int open_ports(struct box *box, struct err *err)
{
    const struct box_config *config = box->config;
    struct ip source = {};
    (void)ip_parse(SLICE(BOX_RELAY_ADDRESS), &source);
    box->relay = relay_new(box->loop, &(struct relay_config){
                                          .fleet = config->fleet,
                                          .source = source,
                                          .seed = env_random_u64(env_of(box)),
                                          .record = config->record,
                                          .record_bytes_max = config->record_bytes_max,
                                      });
    for (size_t i = 0; i < config->port_count; i++) {
        struct box_port *port = &config->ports[i];
        if (port->like)
            port->face.port = port->like->face.port;
        int r = relay_listen(box->relay, &port->face, &port->inside, port->pop, port->control,
                             &port->face, err);
        if (r == ERR_CONFLICT)
            return port_taken(port, err);
        if (r < 0)
            return r;
        if (!port->inside.port)
            port->inside.port = port->face.port;
    }
    return 0;
}

static int open_desk(struct box *box, struct err *err)
{
    static const struct desk_events events = { on_kill, on_revive, on_pop };
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    char text[1200];
    size_t count;
    (void)snprintf(text, sizeof text, "unix:%s/" BOX_SOCKET, box->config->home);
    int r = listen_parse("--home", text, addresses, &count, err);
    if (r == 0)
        r = listen_open("--home", &addresses[0], 1, &box->desk_set, err);
    if (r == 0)
        box->desk =
            desk_new(box->loop, box->desk_set.fds[0], box->relay, box->config->fleet, &events, box);
    return r;
}

/* Two descriptors a connection, as far as we may. */
static void raise_limits(void)
{
    enum { FEW = 4096 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < FEW)
        log_warn("fleet", "few descriptors are allowed, so few connections are relayed",
                 LOG_U("descriptors", limit.rlim_max));
}

static int begin(struct box *box, struct err *err)
{
    const struct box_tree *rows;
    raise_limits();
    int r = env_linux_new(&box->world, err);
    if (r < 0)
        return r;
    box->world_watch = watch_new(box->loop, env_linux_fd(box->world), WATCH_READ, on_world, box);
    box->look = timer_new(box->loop, on_look, box);
    if ((r = watch_signals(box, err)) < 0 || (r = open_ports(box, err)) < 0 ||
        (r = open_desk(box, err)) < 0)
        return r;
    box->tree_count = box->config->trees(&rows, box->config->data);
    box->trees = mem_zalloc(box->tree_count * sizeof *box->trees);
    for (size_t i = 0; i < box->tree_count; i++)
        box->trees[i] = (struct tree){ .box = box, .row = &rows[i] };
    round_start(box);
    return 0;
}

int box_run(const struct box_config *config, struct err *err)
{
    struct box box = { .config = config, .loop = loop_new(), .signal_fd = -1 };
    int r = begin(&box, err);
    if (r == 0)
        loop_run(box.loop);
    if (r == 0 && box.err.code) {
        *err = box.err;
        r = box.err.code;
    }
    desk_free(box.desk);
    listen_close(&box.desk_set);
    relay_free(box.relay);
    timer_free(box.look);
    watch_free(box.signal_watch);
    watch_free(box.world_watch);
    env_linux_free(box.world);
    loop_free(box.loop);
    fd_close(&box.signal_fd);
    free(box.trees);
    return r;
}
