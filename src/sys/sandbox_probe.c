/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine lets stand, by doing it: a child goes through a replica's steps and says by a
 * pipe where it stopped. All at once first; where that fails, one by one, so that the one that is
 * missing is known. As root, where user namespaces do not give all, without one too, and the better
 * way is taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/sandbox.h"

static const uint32_t spaces[] = { PERIGEE_WALL_MOUNT, PERIGEE_WALL_NET, PERIGEE_WALL_IPC };
#define SPACES (sizeof spaces / sizeof *spaces)
#define ALL_SPACES (PERIGEE_WALL_MOUNT | PERIGEE_WALL_NET | PERIGEE_WALL_IPC)

[[gnu::format(printf, 2, 3)]] static void add_off(struct sandbox_probe *probe, const char *format,
                                                  ...)
{
    size_t at = strlen(probe->off), room = sizeof probe->off;
    va_list arguments;

    if (at > 0 && at + 2 < room) {
        memcpy(probe->off + at, "; ", 3);
        at += 2;
    }
    va_start(arguments, format);
    (void)vsnprintf(probe->off + at, room - at, format, arguments);
    va_end(arguments);
}

/* ---- one try, in a child --------------------------------------------------------------------- */

struct outcome {
    int32_t failed;
    bool threads_counted;
    char why[128];
};

/* As the template clones: a sanitizer's fork() starts a thread in the child, and a process of two
 * threads may not have a user namespace of its own. */
static pid_t fork_plainly(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

/* Whether RLIMIT_NPROC counts what is in this user namespace alone (Linux 5.14 and later): with 2
 * there is then room for one process more, whatever else the user runs. */
static bool count_threads(void)
{
    struct rlimit two = { 2, 2 };
    int status = 0;

    if (setrlimit(RLIMIT_NPROC, &two) != 0)
        return false;
    pid_t pid = fork_plainly();
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void child_try(uint32_t walls, uint32_t uid, struct outcome *ret)
{
    struct err err = {};
    /* Any folder that is not full of mounts. */
    auto_close int folder = open("/proc/self/fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);

    ret->failed = sandbox_enter(walls, folder, uid, &err) < 0;
    (void)snprintf(ret->why, sizeof ret->why, "%.*s", (int)sizeof ret->why - 1, err.message);
    ret->threads_counted = !ret->failed && (walls & PERIGEE_WALL_USER) && count_threads();
}

static struct outcome try_walls(uint32_t walls, uint32_t uid)
{
    struct outcome outcome = { .failed = 1, .why = "it cannot be tried" };
    int pipes[2];

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return outcome;
    pid_t pid = fork_plainly();
    if (pid == 0) {
        child_try(walls, uid, &outcome);
        _exit(write(pipes[1], &outcome, sizeof outcome) == sizeof outcome ? 0 : 1);
    }
    close(pipes[1]);
    if (pid > 0) {
        struct outcome said;
        if (read(pipes[0], &said, sizeof said) == sizeof said)
            outcome = said;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(pipes[0]);
    return outcome;
}

/* ---- namespaces ------------------------------------------------------------------------------ */

/* On top of `first`: what stands, and in `probe` why the others do not. */
static void try_spaces(struct sandbox_probe *probe, uint32_t first, uint32_t uid)
{
    struct outcome all = try_walls(first | ALL_SPACES, uid);

    probe->walls |= first;
    if (!all.failed) {
        probe->walls |= ALL_SPACES;
        probe->threads_counted = all.threads_counted;
        return;
    }
    for (size_t i = 0; i < SPACES; i++) {
        struct outcome one = try_walls(first | spaces[i], uid);
        if (!one.failed)
            probe->walls |= spaces[i];
        else
            add_off(probe, "%s: %s", sandbox_wall_name(spaces[i]), one.why);
    }
}

static void try_user(struct sandbox_probe *probe, uint32_t uid)
{
    struct outcome user = try_walls(PERIGEE_WALL_USER, uid);

    if (!user.failed) {
        probe->threads_counted = user.threads_counted;
        try_spaces(probe, PERIGEE_WALL_USER, uid);
        return;
    }
    add_off(probe, "user: %s", user.why);
    for (size_t i = 0; geteuid() != 0 && i < SPACES; i++)
        add_off(probe, "%s: wants a user namespace", sandbox_wall_name(spaces[i]));
}

static void find_spaces(struct sandbox_probe *probe, uint32_t uid)
{
    struct sandbox_probe without = {};

    try_user(probe, uid);
    if (geteuid() != 0 || (probe->walls & ALL_SPACES) == ALL_SPACES)
        return;
    if (probe->walls & PERIGEE_WALL_USER)
        add_off(&without, "user: the others do not stand in one here");
    else
        (void)snprintf(without.off, sizeof without.off, "%s", probe->off);
    try_spaces(&without, 0, uid);
    if (__builtin_popcount(without.walls) > __builtin_popcount(probe->walls) ||
        !(probe->walls & PERIGEE_WALL_USER))
        *probe = without;
}

/* ---- Landlock -------------------------------------------------------------------------------- */

static void find_landlock(struct sandbox_probe *probe)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    if (abi > 0) {
        probe->landlock_abi = (int)abi;
        probe->walls |= PERIGEE_WALL_LANDLOCK;
        return;
    }
    add_off(probe, "landlock: %s",
            errno == ENOSYS       ? "not in this kernel"
            : errno == EOPNOTSUPP ? "off in this kernel"
                                  : strerror(errno));
}

void sandbox_probe(struct sandbox_probe *ret_probe)
{
    uint32_t uid = sandbox_uid_base();
    struct sandbox_probe probe = {};

    find_spaces(&probe, uid);
    find_landlock(&probe);
    if (uid == 0 && geteuid() == 0)
        add_off(&probe, "uid: no room for %u users in /proc/self/uid_map", SANDBOX_UIDS);
    probe.walls |= SANDBOX_MANDATORY | (uid != 0 ? PERIGEE_WALL_UID : 0);
    probe.threads_counted |= uid != 0;
    *ret_probe = probe;
}
