/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor with real processes: this program is the roles and the worker as well. Each writes
 * what it hears to a file in the home, where the test waits for it.
 */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "sys/cgroup.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/proc.h"
#include "sys/sandbox.h"
#include "sys/spawn.h"

enum { REPLICA_WITHOUT_WALLS = 3, REPLICA_THAT_IS_LAZY = 4 };

static char home[HOME_PATH_BYTES];

/* ---- files that the players write and the test reads ----------------------------------------- */

[[gnu::format(printf, 2, 3)]] static void note(const char *file, const char *format, ...)
{
    char path[HOME_PATH_BYTES + 32], line[2048];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    (void)snprintf(path, sizeof path, "%s/%s", home, file);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        abort();
    close(fd);
}

/* The first line with `wanted` in it after `skip` such lines; NULL: there is none yet. */
static const char *find(const char *path, const char *wanted, unsigned skip)
{
    static char line[2048];
    FILE *stream = fopen(path, "re");
    unsigned seen = 0;
    bool found = false;
    while (!found && stream && fgets(line, sizeof line, stream))
        found = strstr(line, wanted) && seen++ == skip;
    if (stream)
        (void)fclose(stream);
    return found ? line : NULL;
}

/* Waits for it, 20 s at most: each change in the folders that the players write to is an event. */
static const char *await(const char *file, const char *wanted, unsigned skip)
{
    enum { CHANGES = IN_CREATE | IN_MODIFY | IN_MOVED_TO };
    char path[HOME_PATH_BYTES + 32], run[HOME_PATH_BYTES + 32], events[4096];
    const char *line;
    struct timespec begin, now;
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    (void)snprintf(path, sizeof path, "%s/%s", home, file);
    (void)snprintf(run, sizeof run, "%s/run", home);
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_true(inotify_add_watch(fd, home, CHANGES) >= 0);
    for (;;) {
        (void)inotify_add_watch(fd, run, CHANGES); /* it may not be there yet; again is harmless */
        line = find(path, wanted, skip);
        if (line)
            break;
        struct pollfd poll_fd = { fd, POLLIN, 0 };
        (void)poll(&poll_fd, 1, 20'000);
        while (read(fd, events, sizeof events) > 0)
            ;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - begin.tv_sec >= 20)
            fail_msg("%s never said '%s' %u times", file, wanted, skip + 1);
    }
    close(fd);
    return line;
}

static pid_t pid_in(const char *line)
{
    const char *at = strstr(line, "pid=");
    assert_non_null(at);
    return (pid_t)strtol(at + 4, NULL, 10);
}

/* ---- a role ---------------------------------------------------------------------------------- */

static void role_send(struct channel *channel, const void *message, size_t size, const int *fds,
                      size_t count)
{
    struct err err;
    if (channel_send(channel, message, size, fds, count, &err) < 0)
        _exit(0);
}

static void agent_asks(struct channel *channel, uint64_t replica, const char *runtime)
{
    struct message_replica_start start = MESSAGE_INIT(MESSAGE_REPLICA_START);
    int model = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    start.replica = replica;
    start.revision = 7;
    start.slot_bytes = 64 * 1024;
    start.slots = start.concurrency = 2;
    start.threads = start.batch_max = 1;
    (void)snprintf(start.runtime, sizeof start.runtime, "%s", runtime);
    (void)snprintf(start.name, sizeof start.name, "fake-%u", (unsigned)replica);
    role_send(channel, &start, sizeof start, &model, 1);
    close(model);
}

static void role_hears(struct channel *channel, const char *name, const union message *m,
                       const int *fds, size_t fd_count)
{
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    static uint64_t instance;
    switch (m->head.type) {
    case MESSAGE_START:
        instance = m->as_MESSAGE_START.instance;
        (void)snprintf(home, sizeof home, "%s", m->as_MESSAGE_START.home);
        note(name, "start pid=%d instance=%u", (int)getpid(), (unsigned)instance);
        break;
    case MESSAGE_LISTENER:
        note(name, "listener %s loop=%u", m->as_MESSAGE_LISTENER.address,
             m->as_MESSAGE_LISTENER.loop);
        break;
    case MESSAGE_GO:
        role_send(channel, &ready, sizeof ready, NULL, 0);
        note(name, "go");
        if (strcmp(name, "pop") == 0 && instance % 1000 == 1) {
            agent_asks(channel, 1, "fake");
            agent_asks(channel, 2, "missing");
            agent_asks(channel, REPLICA_WITHOUT_WALLS, "fake");
            agent_asks(channel, REPLICA_THAT_IS_LAZY, "fake");
        }
        break;
    case MESSAGE_REPLICA_ADDED: {
        struct stat st;
        if (fstat(fds[fd_count - 1], &st) < 0)
            abort();
        note(name, "added %u fds=%zu last=%ju pid=%d",
             (unsigned)m->as_MESSAGE_REPLICA_ADDED.replica, fd_count, (uintmax_t)st.st_ino,
             m->as_MESSAGE_REPLICA_ADDED.pid);
        if (strcmp(name, "pop") == 0 &&
            m->as_MESSAGE_REPLICA_ADDED.replica == REPLICA_WITHOUT_WALLS) {
            struct message_replica look = MESSAGE_INIT(MESSAGE_REPLICA_LOOK);
            look.replica = REPLICA_WITHOUT_WALLS;
            role_send(channel, &look, sizeof look, NULL, 0);
        }
        break;
    }
    case MESSAGE_REPLICA_LOG:
        note(name, "log %.*s", (int)m->as_MESSAGE_REPLICA_LOG.bytes,
             m->as_MESSAGE_REPLICA_LOG.data);
        break;
    case MESSAGE_REPLICA_EXITED:
        note(name, "exited %u end=%u text=%s", (unsigned)m->as_MESSAGE_REPLICA_EXITED.replica,
             m->as_MESSAGE_REPLICA_EXITED.end, m->as_MESSAGE_REPLICA_EXITED.text);
        break;
    case MESSAGE_PROCESS:
        note(name, "process %s state=%u pid=%d", m->as_MESSAGE_PROCESS.name,
             m->as_MESSAGE_PROCESS.state, m->as_MESSAGE_PROCESS.pid);
        break;
    case MESSAGE_DRAIN:
        note(name, "drained");
        exit(0);
    default:
        note(name, "heard %s", message_name(m->head.type));
    }
}

static int role_run(const char *name)
{
    struct channel *channel = channel_new(PERIGEE_CHANNEL_FD);
    lifeline_boot(name, PERIGEE_CHANNEL_FD, PERIGEE_LIFELINE_FD);
    for (;;) {
        struct pollfd polls[] = { { PERIGEE_CHANNEL_FD, POLLIN, 0 },
                                  { PERIGEE_LIFELINE_FD, POLLIN, 0 } };
        union message message;
        int fds[CHANNEL_FDS_MAX], r;
        size_t size, fd_count;
        struct err err;
        (void)poll(polls, 2, -1);
        if (lifeline_cut(PERIGEE_LIFELINE_FD))
            return 0;
        while ((r = channel_receive(channel, &message, sizeof message, &size, fds, &fd_count,
                                    &err)) > 0) {
            if (message_check(&message, size, fd_count, &err) < 0)
                note(name, "wrong: %s", err.message);
            role_hears(channel, name, &message, fds, fd_count);
            for (size_t i = 0; i < fd_count; i++)
                fd_close(&fds[i]);
        }
        if (r < 0)
            return 0;
    }
}

/* ---- a worker -------------------------------------------------------------------------------- */

static bool is_in_group(pid_t pid, pid_t supervisor, uint64_t replica)
{
    char text[4096], name[64];
    (void)snprintf(name, sizeof name, "/perigee-%d-%u\n", (int)supervisor, (unsigned)replica);
    return proc_read(pid, "cgroup", text, sizeof text) > 0 && strstr(text, name);
}

/* Goes into its group, unless it leaves that to the supervisor, and then tells its name. */
[[gnu::noreturn]] static void replica_run(struct channel *channel,
                                          const struct perigee_clone *clone, const int *fds)
{
    struct perigee_cloned cloned = { PERIGEE_WORKER_MAGIC, PERIGEE_CLONED, clone->replica, getpid(),
                                     0 };
    const int *groups = fds + PERIGEE_FD_PIPES + clone->lanes;
    char words[64];
    for (uint32_t i = 0; i < clone->groups && clone->group == PERIGEE_GROUP_TASKS &&
                         clone->replica != REPLICA_THAT_IS_LAZY;
         i++)
        if (write(groups[i], "0", 1) != 1)
            _exit(1);
    int size = snprintf(words, sizeof words, "the replica speaks, %u: groups=%u in=%d",
                        (unsigned)clone->replica, clone->groups,
                        is_in_group(getpid(), getppid(), clone->replica));
    role_send(channel, &cloned, sizeof cloned, NULL, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (lifeline_cut(fds[PERIGEE_FD_LIFELINE]))
        _exit(1);
    struct perigee_status *status =
        mmap(NULL, sizeof *status, PROT_READ | PROT_WRITE, MAP_SHARED, fds[PERIGEE_FD_OUTPUT], 0);
    status->magic = PERIGEE_WORKER_MAGIC;
    status->phase = PERIGEE_PHASE_FAILED;
    status->syscall = -1;
    strcpy(status->reason, "its own words");
    if (write(fds[PERIGEE_FD_LOG], words, (size_t)size) < 0)
        _exit(1);
    for (;;)
        pause();
}

static int template_run(void)
{
    struct perigee_hello hello = {
        PERIGEE_WORKER_MAGIC, PERIGEE_HELLO, 1, 2, "fake", "Fake 1", SANDBOX_MANDATORY,
    }; /* a promise that no replica of it keeps */
    struct channel *channel = channel_new(PERIGEE_CHANNEL_FD);
    role_send(channel, &hello, sizeof hello, NULL, 0);
    for (;;) {
        struct pollfd readable = { PERIGEE_CHANNEL_FD, POLLIN, 0 };
        struct perigee_clone clone;
        int fds[CHANNEL_FDS_MAX];
        size_t size, fd_count;
        struct err err;
        (void)poll(&readable, 1, -1);
        if (channel_receive(channel, &clone, sizeof clone, &size, fds, &fd_count, &err) < 0)
            return 0;
        struct clone_args arguments = { .flags = CLONE_PARENT };
        pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
        if (pid == 0)
            replica_run(channel, &clone, fds);
        struct perigee_cloned cloned = { PERIGEE_WORKER_MAGIC, PERIGEE_CLONED, clone.replica, -1,
                                         1 };
        if (pid < 0)
            role_send(channel, &cloned, sizeof cloned, NULL, 0);
        for (size_t i = 0; i < fd_count; i++)
            fd_close(&fds[i]);
    }
}

/* ---- the test -------------------------------------------------------------------------------- */

static pid_t up(void)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    struct supervisor_listen listens[2] = {
        { .kind = LISTENER_GATEWAY, .flag = "--listen-gateway" },
        { .kind = LISTENER_CONTROL, .flag = "--home", .internal = true },
    };
    struct supervisor_config config = {
        .listens = listens, .listen_count = 2, .control = true, .agent = true, .gateway = true
    };
    char path[HOME_PATH_BYTES + 32];
    struct err err = {};
    (void)snprintf(path, sizeof path, "unix:%s/run/control.sock", home);
    (void)snprintf(config.start.home, sizeof config.start.home, "%s", home);
    (void)snprintf(config.start.libdir, sizeof config.start.libdir, "%.900s/lib", home);
    config.start.loops = 2;
    log_level_set(LOG_ERROR + 1);
    int r = listen_parse("--x", "127.0.0.1:0", listens[0].addresses, &listens[0].count, &err);
    if (r == 0)
        r = listen_parse("--x", path, listens[1].addresses, &listens[1].count, &err);
    if (r == 0)
        r = supervisor_run(&config, &err);
    if (r < 0)
        note("up", "failed: %s", err.message);
    exit(r < 0 ? 1 : 0);
}

static void setup_home(void)
{
    char lib[HOME_PATH_BYTES + 32], worker[HOME_PATH_BYTES + 64], self[HOME_PATH_BYTES];
    (void)snprintf(home, sizeof home, "/tmp/test_supervisor.XXXXXX");
    assert_non_null(mkdtemp(home));
    (void)snprintf(lib, sizeof lib, "%s/lib", home);
    (void)snprintf(worker, sizeof worker, "%s/perigee-worker-fake", lib);
    assert_int_equal(mkdir(lib, 0700), 0);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    assert_int_equal(symlink(self, worker), 0);
}

static void remove_home(void)
{
    const char *arguments[] = { "rm", "-rf", home, NULL };
    struct env_spawn spawn = { "/bin/rm", arguments, NULL, NULL };
    pid_t pid;
    int pidfd;
    struct err err;
    assert_int_equal(spawn_process(&spawn, &pid, &pidfd, &err), 0);
    close(pidfd);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool exists(const char *name)
{
    char path[HOME_PATH_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/%s", home, name);
    return access(path, F_OK) == 0;
}

/* All that were below the dead supervisor are ours now (a subreaper); they must end by themselves.
 */
static void await_nothing_left(void)
{
    (void)alarm(10); /* ends the test, and fails it */
    while (waitpid(-1, NULL, __WALL) >= 0)
        ;
    assert_int_equal(errno, ECHILD);
    (void)alarm(0);
}

/* Where groups can be written: one that goes there by itself is in it before it tells its name, and
 * one that does not is moved. Gives the folder that is to go with the first. */
static void check_groups(pid_t supervisor, pid_t replica, pid_t lazy,
                         char folder[static CGROUP_PATH_BYTES])
{
    const char *said = await("pop", "log the replica speaks, 1:", 0);
    folder[0] = '\0';
    if (strstr(said, "groups=0")) {
        print_message("  no control group can be written here\n");
        return;
    }
    assert_true(is_in_group(replica, supervisor, 1));
    assert_true(is_in_group(lazy, supervisor, REPLICA_THAT_IS_LAZY));
    if (strstr(said, "groups=2")) { /* v1, which has two hierarchies */
        assert_non_null(strstr(said, "in=1"));
        (void)await("pop", "log the replica speaks, 4: groups=2 in=0", 0);
        assert_true(cgroup_find(replica, "memory", folder));
    } else {
        assert_true(cgroup_find(replica, "", folder));
    }
    assert_int_equal(access(folder, F_OK), 0);
}

static void test_a_life(void **state)
{
    char group[CGROUP_PATH_BYTES];
    (void)state;
    setup_home();
    pid_t supervisor = up();
    (void)await("control", "listener unix:", 0);
    (void)await("gateway", "loop=1", 0);
    (void)await("pop", "exited 2 end=5 text=there is no runtime 'missing' here", 0);
    pid_t replica = pid_in(await("pop", "added 1 fds=1", 0));
    pid_t lazy = pid_in(await("pop", "added 4 fds=1", 0));
    check_groups(supervisor, replica, lazy, group);
    (void)await("pop", "exited 3 end=5 text=a wall that its template promised does not stand: ", 0);
    const char *added = strstr(await("gateway", "added 1 fds=5", 0), "last=");
    uintmax_t pipe = strtoumax(added + 5, NULL, 10);
    (void)await("run/addresses.json", "{\"gateway\": [\"127.0.0.1:", 0);
    (void)await("pop", "process control state=2", 0);

    /* A second one on the same home. */
    int status;
    pid_t second = up();
    assert_int_equal(waitpid(second, &status, 0), second);
    assert_int_equal(WEXITSTATUS(status), 1);
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "(process %d)", (int)supervisor);
    (void)await("up", wanted, 0);

    /* The template dies: the replica does not. */
    pid_t template = pid_in(await("pop", "process template fake state=2", 0));
    kill(template, SIGKILL);
    (void)await("pop", "process template fake state=3", 0);
    assert_int_equal(kill(replica, 0), 0);

    /* The gateway dies: the next has its listeners, and the same replica with other pipes. */
    kill(pid_in(await("gateway", "start", 0)), SIGKILL);
    (void)await("gateway", "loop=1", 1);
    added = strstr(await("gateway", "added 1 fds=5", 1), "last=");
    assert_true(strtoumax(added + 5, NULL, 10) != pipe);
    (void)await("gateway", "heard MESSAGE_PEER", 1);

    /* The agent dies, and the replica while nobody hears it: the next agent is told all. */
    kill(pid_in(await("pop", "start", 0)), SIGKILL);
    (void)await("pop", "go", 1);
    (void)await("pop", "log the replica speaks, 1:", 1);
    kill(replica, SIGKILL);
    (void)await("pop", "exited 1 end=0 text=its own words", 0);
    assert_true(!group[0] || access(group, F_OK) < 0);
    (void)await("gateway", "exited 1 end=0", 0);

    kill(supervisor, SIGTERM);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_int_equal(status, 0);
    (void)await("gateway", "drained", 0);
    (void)await("pop", "drained", 0);
    (void)await("control", "drained", 0);
    await_nothing_left();
    assert_false(exists("run/addresses.json"));
    assert_false(exists("run/control.sock"));
    remove_home();
}

static void test_a_killed_supervisor_leaves_nothing(void **state)
{
    (void)state;
    setup_home();
    pid_t supervisor = up();
    (void)await("pop", "log the replica speaks", 0);
    (void)await("run/addresses.json", "gateway", 0);
    kill(supervisor, SIGKILL);
    await_nothing_left();
    assert_true(exists("run/addresses.json")); /* nobody was left to remove it */

    /* The home is free again, and instances go on. */
    supervisor = up();
    (void)await("gateway", "start", 1);
    (void)await("gateway", "instance=1001", 0);
    (void)await("run/addresses.json", "gateway", 0);
    kill(supervisor, SIGTERM);
    kill(supervisor, SIGINT); /* at once */
    int status;
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    assert_int_equal(status, 0);
    await_nothing_left();
    remove_home();
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "role") == 0)
        return role_run(argv[2]);
    if (strstr(argv[0], "perigee-worker-fake"))
        return template_run();
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_life),
        cmocka_unit_test(test_a_killed_supervisor_leaves_nothing),
    };
    return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
