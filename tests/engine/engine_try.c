/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One container's life by the driver `engine`, for tests/system/test_engine.py.
 *
 *   engine_try unix:PATH [--load FILE] [KEY VALUE]...
 *
 * Says what happens as JSON objects, one a line; does what its standard input says: "stop MS",
 * "get", "exec MS WORD..."; ends with the container, or with its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"
#include "io/socket.h"
#include "io/timer.h"
#include "io/work.h"
#include "replica/engine/exec.h"
#include "replica/engine/groups.h"
#include "replica/engine/life.h"
#include "replica/engine/listed.h"
#include "replica/engine/watch.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum { TRY_MS = 5, REPLICA = 7 };

struct
try {
    struct loop *loop;
    struct work_pool *pool;
    struct engine *engine;
    struct engine_life *life;
    struct engine_container want;
    struct slice command[16];
    struct engine_pair env[16];
    const char *load;
    struct channel *helper;
    struct engine_watch *watch;
    struct engine_exec *exec;
    struct timer *timer;
    int load_fd, pidfd;
    bool sweeps, watches;
    int64_t removed;
};

/* ---- what is said ---------------------------------------------------------------------------- */

static void say(const char *is, const char *key, struct slice text, const char *number_key,
                int64_t number)
{
    struct arena *arena = arena_new();
    struct json_writer w;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_text(&w, "is", is);
    if (key)
        json_member_string(&w, key, text);
    if (number_key)
        json_member_i64(&w, number_key, number);
    json_object_end(&w);
    struct slice line = json_end(&w);
    (void)!write(1, line.data, line.size);
    arena_free(arena);
}

static void fail(struct try *try, const char *why)
{
    say("error", "why", slice_of(why), NULL, 0);
    loop_stop(try->loop);
}

/* ---- reaching it ----------------------------------------------------------------------------- */

/* The helper's answer of that type. False: none. */
static bool answer_of(struct try *try, enum netns_type type, int *ret_fd)
{
    struct netns_message got = {};
    struct pollfd wait = { channel_fd(try->helper), POLLIN, 0 };
    int fds[CHANNEL_FDS_MAX];
    size_t size, count = 0;
    struct err err;
    if (poll(&wait, 1, 10'000) != 1 ||
        channel_receive(try->helper, &got, sizeof got, &size, fds, &count, &err) != 1)
        return false;
    *ret_fd = count ? fds[0] : -1;
    return got.type == type && got.code == 0;
}

/* A socket inside, from the helper. -1: none. */
static int socket_inside(struct try *try)
{
    struct netns_message want = { NETNS_MAGIC, NETNS_WANT, REPLICA, 1, 0, 1 };
    int fd = -1;
    if (channel_send(try->helper, &want, sizeof want, NULL, 0, NULL) < 0 ||
        !answer_of(try, NETNS_SOCKET, &fd))
        return -1;
    return fd;
}

static void show_inside(struct try *try)
{
    struct netns_message show = { NETNS_MAGIC, NETNS_SHOW, REPLICA, 0 };
    struct err err;
    int fd = -1;
    if (channel_send(try->helper, &show, sizeof show, &try->pidfd, 1, &err) < 0)
        fail(try, err.message);
    else
        (void)answer_of(try, NETNS_SHOWN, &fd); /* it may have ended already */
}

/* GET /, and what comes, up to its end. False: nobody listens there. */
static bool get(struct try *try)
{
    char text[4096];
    size_t at = 0;
    ssize_t size;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(try->want.port) };
    static const char ask[] = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    auto_close int fd = socket_inside(try);
    if (fd < 0)
        return false;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)fcntl(fd, F_SETFL, 0); /* a test may block */
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return false;
    (void)!write(fd, ask, sizeof ask - 1);
    while (at < sizeof text && (size = read(fd, text + at, sizeof text - at)) > 0)
        at += (size_t)size;
    say("answer", "text", (struct slice){ text, at }, NULL, 0);
    return true;
}

static void on_try(void *data)
{
    struct try *try = data;
    if (!get(try))
        timer_start(try->timer, TRY_MS);
}

/* ---- its life -------------------------------------------------------------------------------- */

static void on_running(struct engine_life *life, int64_t pid, int pidfd, void *data)
{
    struct try *try = data;
    (void)life;
    try->pidfd = pidfd;
    say("running", NULL, (struct slice){}, "pid", pid);
    show_inside(try);
    timer_start(try->timer, 0);
}

static void on_log(struct engine_life *life, struct slice text, bool is_error, void *data)
{
    (void)life;
    (void)data;
    say("log", "text", text, "error", is_error);
}

static void on_dead(struct engine_life *life, void *data)
{
    (void)life;
    (void)data;
    say("dead", NULL, (struct slice){}, NULL, 0);
}

static void on_groups_empty(void *data)
{
    struct try *try = data;
    loop_stop(try->loop);
}

static void on_gone(struct engine_life *life, const struct engine_end *end, void *data)
{
    struct try *try = data;
    struct arena *arena = arena_new();
    struct json_writer w;
    (void)life;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "is", "gone");
    json_member_text(&w, "text", end->text);
    json_member_bool(&w, "ran", end->ran);
    json_member_bool(&w, "left", end->left);
    json_member_bool(&w, "out_of_memory", end->out_of_memory);
    json_member_i64(&w, "exit_code", end->exit_code);
    json_member_u64(&w, "cpu_us", end->cpu_us);
    json_member_u64(&w, "memory_bytes_max", end->memory_bytes_max);
    json_object_end(&w);
    struct slice line = json_end(&w);
    printf("%.*s\n", SLICE_FMT(line));
    (void)fflush(stdout);
    arena_free(arena);
    timer_stop(try->timer);
    try->life = NULL;
    if (engine_groups_empty(engine_groups(try->engine)))
        loop_stop(try->loop);
    else
        engine_groups_on_empty(engine_groups(try->engine), on_groups_empty, try);
}

static void on_event(struct slice id, struct slice action, void *data)
{
    (void)id;
    (void)data;
    say("event", "action", action, NULL, 0);
}

static void on_list(const struct engine_list *list, void *data)
{
    (void)data;
    say("list", NULL, (struct slice){}, "count", (int64_t)list->count);
}

static void on_lost(const char *why, void *data)
{
    (void)data;
    say("lost", "why", slice_of(why), NULL, 0);
}

static void begin(struct try *try)
{
    static const struct engine_watch_events watched = { on_event, on_list, on_lost };
    if (try->watches)
        try->watch = engine_watch_new(try->engine, try->loop, try->want.home, &watched, try);
    static const struct engine_life_events events = { on_running, on_log, on_dead, on_gone };
    try->life = engine_life_begin(try->engine, try->loop, &try->want, &events, try);
}

static void on_loaded(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct try *try = data;
    (void)answer;
    if (err) {
        fail(try, err->message);
        return;
    }
    say("loaded", NULL, (struct slice){}, NULL, 0);
    if (try->want.image.size)
        begin(try);
    else
        loop_stop(try->loop);
}

/* All of that home, one after the other: each answer is followed by a new list. */
static void sweep(struct try *try);

static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct try *try = data;
    (void)answer;
    if (err && err->code != ERR_NOT_FOUND) {
        fail(try, err->message);
        loop_stop(try->loop);
        return;
    }
    try->removed++;
    sweep(try);
}

static void on_swept(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct try *try = data;
    struct arena *arena = arena_new();
    struct engine_list list = {};
    struct err why = {};
    char target[128];
    if (!err && engine_list_parse(arena, answer->body, try->want.home, &list, &why) < 0)
        err = &why;
    if (err || list.count == 0) {
        if (err)
            fail(try, err->message);
        else
            say("swept", NULL, (struct slice){}, "removed", try->removed);
        loop_stop(try->loop);
    } else {
        snprintf(target, sizeof target, "/containers/%.*s?force=1&v=1",
                 SLICE_FMT(list.items[0].id));
        engine_ask(try->engine, ENGINE_DELETE, target, (struct slice){}, 60'000, on_removed, try);
    }
    arena_free(arena);
}

static void sweep(struct try *try)
{
    engine_list(try->engine, 30'000, on_swept, try);
}

static void on_version(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct try *try = data;
    struct engine_version version;
    struct err why;
    struct stat status;
    if (err || engine_version_parse(answer->body, &version, &why) < 0) {
        fail(try, err ? err->message : why.message);
        return;
    }
    say("engine", "name", slice_of(version.name), NULL, 0);
    engine_use(try->engine, &version);
    if (try->sweeps) {
        sweep(try);
        return;
    }
    if (!try->load) {
        begin(try);
        return;
    }
    try->load_fd = open(try->load, O_RDONLY | O_CLOEXEC);
    if (try->load_fd < 0 || fstat(try->load_fd, &status) < 0) {
        fail(try, strerror(errno));
        return;
    }
    struct engine_piece piece = { .fd = try->load_fd, .size = (uint64_t)status.st_size };
    engine_load(try->engine, &piece, 1, 60'000, on_loaded, try);
}

static char *line_of(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static void on_exec(int exit_code, const struct err *err, void *data)
{
    struct try *try = data;
    try->exec = NULL;
    say("exec", "why", slice_of(err ? err->message : ""), "exit_code", exit_code);
}

/* "exec MS WORD...", each up to a blank: so long at most. */
static void exec(struct try *try, char *line)
{
    struct slice words[16], rest = slice_of(line);
    int64_t timeout_ms = strtoll(slice_cut(&rest, ' ').data, NULL, 10);
    size_t count = 0;
    while (rest.data && count < 16)
        words[count++] = slice_cut(&rest, ' ');
    if (!try->exec)
        try->exec = engine_exec(try->engine, try->loop, slice_of(engine_life_id(try->life)), words,
                                count, timeout_ms, on_exec, try);
}

static void on_input(struct watch *watch, unsigned events, void *data)
{
    struct try *try = data;
    char line[256];
    ssize_t size = read(0, line, sizeof line - 1);
    (void)events;
    if (size <= 0) {
        watch_set(watch, 0);
        loop_stop(try->loop);
        return;
    }
    line[size] = '\0';
    if (strncmp(line, "stop ", 5) == 0 && try->life)
        engine_life_stop(try->life, strtoll(line + 5, NULL, 10));
    else if (strncmp(line, "exec ", 5) == 0 && try->life)
        exec(try, line_of(line + 5));
    else if (strncmp(line, "get", 3) == 0 && !get(try))
        say("nothing", NULL, (struct slice){}, NULL, 0);
}

/* ---- what was asked for ---------------------------------------------------------------------- */

static uint64_t least(int resource, uint64_t wanted)
{
    struct rlimit limit;
    (void)getrlimit(resource, &limit);
    return limit.rlim_max < wanted ? limit.rlim_max : wanted;
}

static void set(struct try *try, const char *key, const char *value)
{
    struct engine_container *want = &try->want;
    const char *equals = strchr(value, '=');
    if (strcmp(key, "--load") == 0)
        try->load = value;
    else if (strcmp(key, "image") == 0)
        want->image = slice_of(value);
    else if (strcmp(key, "name") == 0)
        want->name = slice_of(value);
    else if (strcmp(key, "home") == 0)
        want->home = slice_of(value);
    else if (strcmp(key, "sweep") == 0)
        try->sweeps = true;
    else if (strcmp(key, "watch") == 0)
        try->watches = true;
    else if (strcmp(key, "command") == 0 && want->command_count < 16)
        try->command[want->command_count++] = slice_of(value);
    else if (strcmp(key, "env") == 0 && equals && want->env_count < 16)
        try->env[want->env_count++] =
            (struct engine_pair){ { value, (size_t)(equals - value) }, slice_of(equals + 1) };
    else if (strcmp(key, "port") == 0)
        want->port = (uint16_t)strtoul(value, NULL, 10);
    else if (strcmp(key, "user") == 0)
        want->user = slice_of(value);
    else if (strcmp(key, "writable") == 0)
        want->read_only = false;
    else if (strcmp(key, "memory") == 0)
        want->memory_bytes = strtoull(value, NULL, 10);
    else if (strcmp(key, "pids") == 0)
        want->pids = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(key, "group") == 0)
        want->cgroup_parent = slice_of(value);
}

int main(int argc, char **argv)
{
    struct try try = { .load_fd = -1 };
    struct address address;
    struct err err;
    int pair[2];

    (void)signal(SIGPIPE, SIG_IGN); /* as every program of ours does */
    try.want = (struct engine_container){
        .name = SLICE("perigee-try"),
        .home = SLICE("try"),
        .revision = 1,
        .replica = REPLICA,
        .command = try.command,
        .env = try.env,
        .port = 8080,
        .read_only = true,
        .memory_bytes = UINT64_C(64) << 20,
        .shm_bytes = UINT64_C(16) << 20,
        .tmp_bytes = UINT64_C(16) << 20,
        .cpu_milli = 1000,
        .pids = 64,
        .nofile = least(RLIMIT_NOFILE, 1024),
        .nproc = least(RLIMIT_NPROC, 4096),
    };
    for (int i = 2; i + 1 < argc; i += 2)
        set(&try, argv[i], argv[i + 1]);
    if (argc < 2 || engine_find(slice_of(argv[1]), &address, &err) < 0 ||
        channel_pair(pair, &err) < 0) {
        (void)fprintf(stderr, "%s\n", argc < 2 ? "which engine?" : err.message);
        return 2;
    }
    pid_t helper = fork();
    if (helper == 0) {
        (void)close(pair[0]);
        netns_serve(&pair[1], 1, -1);
        _exit(0);
    }
    (void)close(pair[1]);
    try.helper = channel_new(pair[0]);
    try.loop = loop_new();
    try.pool = work_pool_new("read", 1);
    try.engine = engine_new(try.loop, try.pool, &address);
    try.timer = timer_new(try.loop, on_try, &try);
    struct watch *input = watch_new(try.loop, 0, WATCH_READ, on_input, &try);
    engine_ask(try.engine, ENGINE_GET, "/version", (struct slice){}, 10'000, on_version, &try);
    loop_run(try.loop);
    if (try.exec)
        engine_exec_free(try.exec);
    if (try.life)
        engine_life_free(try.life);
    engine_watch_free(try.watch);
    watch_free(input);
    timer_free(try.timer);
    engine_free(try.engine);
    work_pool_free(try.pool);
    loop_free(try.loop);
    fd_close(&try.load_fd);
    channel_free(try.helper);
    return waitpid(helper, NULL, 0) == helper ? 0 : 1;
}
