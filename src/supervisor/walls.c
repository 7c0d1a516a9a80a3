/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/walls.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/proc.h"
#include "sys/sandbox.h"

/* ---- files of /proc -------------------------------------------------------------------------- */

static bool read_proc(pid_t pid, const char *name, char text[static PROC_TEXT_BYTES])
{
    return proc_read(pid, name, text, PROC_TEXT_BYTES) > 0;
}

/* What follows `key` on its line, and the rest of the text. NULL: there is no such line. */
static const char *line_of(const char *text, const char *key)
{
    return proc_line(slice_of(text), key).data;
}

static uint64_t number_of(const char *text, const char *key, int base)
{
    return proc_number(slice_of(text), key, base);
}

/* ---- what it is ------------------------------------------------------------------------------ */

static bool is_user(const char *status, uint32_t uid)
{
    const char *value = line_of(status, "Uid:");
    uint32_t ids[4] = {};
    if (!value || sscanf(value, "%" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32, &ids[0], &ids[1],
                         &ids[2], &ids[3]) != 4)
        return false;
    for (int i = 0; i < 4; i++)
        if (ids[i] != uid)
            return false;
    return true;
}

static bool has_no_capability(const char *status)
{
    return number_of(status, "CapInh:", 16) == 0 && number_of(status, "CapPrm:", 16) == 0 &&
           number_of(status, "CapEff:", 16) == 0 && number_of(status, "CapAmb:", 16) == 0;
}

/* "Max data size  123  123  bytes": bounded, both. */
static bool is_limited(const char *limits, const char *key, bool to_nothing)
{
    const char *value = line_of(limits, key);
    char soft[32], hard[32];
    if (!value || sscanf(value, "%31s %31s", soft, hard) != 2 || strcmp(soft, hard) != 0)
        return false;
    return to_nothing ? strcmp(hard, "0") == 0 : strcmp(hard, "unlimited") != 0;
}

static bool is_bounded(pid_t pid)
{
    static char limits[PROC_TEXT_BYTES]; /* one thread */
    return read_proc(pid, "limits", limits) && is_limited(limits, "Max data size", false) &&
           is_limited(limits, "Max address space", false) &&
           is_limited(limits, "Max stack size", false) &&
           is_limited(limits, "Max file size", true) &&
           is_limited(limits, "Max core file size", true);
}

/* ---- where it is ----------------------------------------------------------------------------- */

/* 1: another namespace than ours, 0: ours, -1: not shown to us. */
static int other_namespace(pid_t pid, const char *name)
{
    char path[64], theirs[64] = "", ours[64] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    if (readlink(path, theirs, sizeof theirs - 1) <= 0)
        return -1;
    (void)snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    if (readlink(path, ours, sizeof ours - 1) <= 0)
        return -1;
    return strcmp(theirs, ours) != 0;
}

/* A process that may not be dumped shows its namespaces to root alone; these files to anybody. */
static bool maps_one_user(pid_t pid, uint32_t uid)
{
    static char text[PROC_TEXT_BYTES];
    uint32_t inside, outside, count;
    return read_proc(pid, "uid_map", text) &&
           sscanf(text, "%" SCNu32 " %" SCNu32 " %" SCNu32, &inside, &outside, &count) == 3 &&
           outside == uid && count == 1;
}

static bool root_is_ours_to_give(pid_t pid)
{
    static char text[PROC_TEXT_BYTES];
    const char *tmpfs = read_proc(pid, "mountinfo", text) ? strstr(text, " / / ro,") : NULL;
    const char *end = tmpfs ? strchr(tmpfs, '\n') : NULL;
    const char *type = tmpfs ? strstr(tmpfs, " - tmpfs perigee ") : NULL;
    return type && (!end || type < end);
}

/* One interface, and no address: a loopback that was never up. */
static bool has_no_network(pid_t pid)
{
    static char text[PROC_TEXT_BYTES];
    const char *first = read_proc(pid, "net/dev", text) ? strchr(text, ':') : NULL;
    return first && !strchr(first + 1, ':') && !read_proc(pid, "net/fib_trie", text);
}

static bool stands(pid_t pid, uint32_t wall, const struct walls_expected *expected, uint32_t uid)
{
    static const struct {
        uint32_t wall;
        const char *name;
    } rows[] = {
        { PERIGEE_WALL_USER, "user" },
        { PERIGEE_WALL_MOUNT, "mnt" },
        { PERIGEE_WALL_NET, "net" },
        { PERIGEE_WALL_IPC, "ipc" },
    };
    int other = -1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].wall == wall)
            other = other_namespace(pid, rows[i].name);
    if (other >= 0)
        return other == 1;
    switch (wall) {
    case PERIGEE_WALL_USER:
        return maps_one_user(pid, uid);
    case PERIGEE_WALL_MOUNT:
        return root_is_ours_to_give(pid);
    case PERIGEE_WALL_NET:
        return has_no_network(pid);
    default: /* made by the same call as the user namespace: it is there when that one is */
        return (expected->walls & PERIGEE_WALL_USER) != 0;
    }
}

/* ---- all ------------------------------------------------------------------------------------- */

int walls_look(pid_t pid, const struct walls_expected *expected, uint32_t *ret_walls,
               struct err *err)
{
    static char status[PROC_TEXT_BYTES];
    static const uint32_t spaces[] = { PERIGEE_WALL_USER, PERIGEE_WALL_MOUNT, PERIGEE_WALL_NET,
                                       PERIGEE_WALL_IPC };
    uint32_t uid = expected->uid ? expected->uid : geteuid(), walls = expected->walls;
    if (!read_proc(pid, "status", status)) /* our child: until we reap it /proc has it */
        return kill(pid, 0) < 0 && errno == ESRCH
                   ? err_set(err, ERR_NOT_FOUND, "it is gone")
                   : err_set(err, ERR_PRECONDITION,
                             "its walls cannot be looked at: /proc does not show it (mounted with "
                             "hidepid?)");
    const char *missing = number_of(status, "NoNewPrivs:", 10) != 1 ? "nnp"
                          : number_of(status, "Seccomp:", 10) != 2  ? "seccomp"
                          : !is_bounded(pid)                        ? "rlimits"
                          : !is_user(status, uid)                   ? "uid"
                          : !has_no_capability(status)              ? "no capabilities"
                                                                    : NULL;
    for (size_t i = 0; !missing && i < sizeof spaces / sizeof *spaces; i++)
        if (walls & spaces[i] && !stands(pid, spaces[i], expected, uid))
            missing = sandbox_wall_name(spaces[i]);
    if (missing)
        return err_set(err, ERR_PRECONDITION,
                       "a wall that its template promised does not stand: %s", missing);
    *ret_walls = expected->uid ? walls | PERIGEE_WALL_UID : walls & ~(uint32_t)PERIGEE_WALL_UID;
    return 0;
}
