/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/walls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "sys/cgroup.h"
#include "sys/proc.h"

enum { MOUNTS_BYTES = 64 << 10 };

#define MISSING ENGINE_WALL_MISSING

/* ---- the engine's words ---------------------------------------------------------------------- */

static int bound(const char *name, int64_t seen, uint64_t want, struct err *err)
{
    if (seen > 0 && (uint64_t)seen <= want)
        return 0;
    return err_set(err, ERR_PRECONDITION, MISSING "%s is %" PRId64 ", not %" PRIu64, name, seen,
                   want);
}

static int limit(const char *name, const struct engine_limit *seen, uint64_t want, struct err *err)
{
    return bound(name, seen->there ? seen->hard : 0, want, err);
}

static bool mount_fits(const struct engine_mount *mount, const struct engine_volume *volume)
{
    return slice_is(mount->type, "volume") && slice_equal(mount->name, volume->name) &&
           slice_equal(mount->path, volume->path);
}

/* "NAME:PATH", and perhaps options behind it. */
static bool bind_fits(struct slice bind, const struct engine_volume *volume)
{
    struct slice rest = bind, name = slice_cut(&rest, ':');
    return slice_equal(name, volume->name) && slice_equal(slice_cut(&rest, ':'), volume->path);
}

/* Those that were asked for are there, and no others. */
static int volumes_check(const struct engine_container *want, const struct engine_seen *seen,
                         struct err *err)
{
    for (size_t i = 0; i < seen->mount_count; i++) {
        bool known = false;
        for (size_t j = 0; j < want->volume_count; j++)
            known |= mount_fits(&seen->mounts[i], &want->volumes[j]);
        if (!known)
            return err_set(err, ERR_PRECONDITION,
                           MISSING "a bound on its image's VOLUME '%s': `volumes` can give it one",
                           ERR_SLICE(seen->mounts[i].path));
    }
    for (size_t i = 0; i < seen->bind_count; i++) {
        bool known = false;
        for (size_t j = 0; j < want->volume_count; j++)
            known |= bind_fits(seen->binds[i], &want->volumes[j]);
        if (!known)
            return err_set(err, ERR_PRECONDITION, MISSING "it was given folders of this machine");
    }
    for (size_t j = 0; j < want->volume_count; j++) {
        bool there = false;
        for (size_t i = 0; i < seen->mount_count; i++)
            there |= mount_fits(&seen->mounts[i], &want->volumes[j]);
        if (!there)
            return err_set(err, ERR_PRECONDITION, MISSING "its volume '%s'",
                           ERR_SLICE(want->volumes[j].path));
    }
    return 0;
}

int engine_walls_check(const struct engine_container *want, const struct engine_seen *seen,
                       struct err *err)
{
    bool none = want->network == ENGINE_NETWORK_NONE, own = want->network == ENGINE_NETWORK_OWN;
    const char *missing =
        seen->privileged                                          ? "it is privileged"
        : !seen->no_new_privileges                                ? "no-new-privileges"
        : seen->seccomp_off                                       ? "seccomp"
        : seen->capabilities_added                                ? "it was given capabilities"
        : seen->devices || seen->gpus > want->gpus                ? "it was given devices"
        : seen->gpus < want->gpus                                 ? "its GPUs"
        : !slice_equal(seen->gpu_ids, want->gpu_ids)              ? "its own GPUs"
        : seen->shares                                            ? "it shares a namespace"
        : want->read_only && !seen->read_only                     ? "its root can be written"
        : !seen->tmp                                              ? "a /tmp of its own"
        : none && !slice_is(seen->network, "none")                ? "it has a network"
        : own && !slice_equal(seen->attached, want->network_name) ? "a network of its own"
        : own && seen->attached_count != 1                        ? "it has a network more"
        : own && !seen->dns_nowhere                               ? "a resolver that asks nobody"
        : !slice_equal(want->image, seen->image)                  ? "it is of another image"
        : want->user.size && !slice_equal(want->user, seen->user) ? "its user"
        : want->cgroup_parent.size && !slice_equal(want->cgroup_parent, seen->cgroup_parent)
            ? "its control group"
            : NULL;
    if (missing)
        return err_set(err, ERR_PRECONDITION, MISSING "%s", missing);
    int r = volumes_check(want, seen, err);
    if (r == 0)
        r = bound("pids", seen->pids, want->pids, err);
    if (r == 0)
        r = bound("memory", seen->memory_bytes, want->memory_bytes, err);
    if (r == 0)
        r = bound("memory and swap", seen->memory_swap_bytes, want->memory_bytes, err);
    if (r == 0)
        r = bound("cpu (in thousandths)", seen->cpu_milli, want->cpu_milli, err);
    if (r == 0)
        r = bound("shm", seen->shm_bytes, want->shm_bytes, err);
    if (r == 0)
        r = limit("open files", &seen->nofile, want->nofile, err);
    return r < 0 ? r : limit("processes of its user", &seen->nproc, want->nproc, err);
}

/* ---- the kernel's ---------------------------------------------------------------------------- */

int engine_walls_status(struct slice status, struct err *err)
{
    static const char *const capabilities[] = { "CapInh:", "CapPrm:", "CapEff:", "CapBnd:",
                                                "CapAmb:" };
    if (proc_number(status, "NoNewPrivs:", 10) != 1)
        return err_set(err, ERR_PRECONDITION, MISSING "no-new-privileges, says the kernel");
    for (size_t i = 0; i < sizeof capabilities / sizeof *capabilities; i++)
        if (proc_number(status, capabilities[i], 16) != 0)
            return err_set(err, ERR_PRECONDITION, MISSING "it has capabilities, says the kernel");
    if (proc_number(status, "Seccomp:", 10) != 2)
        return err_set(err, ERR_PRECONDITION, MISSING "seccomp, says the kernel");
    return 0;
}

/* A line of uid_map: the first id inside, the first outside, how many. */
static bool uid_inside(struct slice map, uint64_t outside, uint64_t *ret)
{
    while (map.size) {
        struct slice line = slice_cut(&map, '\n');
        uint64_t numbers[3];
        int count = 0;
        for (; count < 3; count++) {
            line = slice_trim(line);
            if (!slice_u64(slice_cut(&line, ' '), &numbers[count]))
                break;
        }
        if (count == 3 && outside >= numbers[1] && outside - numbers[1] < numbers[2]) {
            *ret = outside - numbers[1] + numbers[0];
            return true;
        }
    }
    return false;
}

int engine_walls_user(const struct engine_container *want, struct slice status, struct slice map,
                      struct err *err)
{
    struct slice rest = want->user, name = slice_cut(&rest, ':');
    uint64_t wanted, is;

    if (!slice_u64(name, &wanted)) /* whose number the image says */
        return 0;
    if (uid_inside(map, proc_number(status, "Uid:", 10), &is) && is == wanted)
        return 0;
    return err_set(err, ERR_PRECONDITION, MISSING "its user, says the kernel");
}

int engine_walls_limits(const struct engine_container *want, struct slice limits, struct err *err)
{
    const struct {
        const char *line, *name;
        uint64_t most;
    } rows[] = { { "Max open files", "open files", want->nofile },
                 { "Max processes", "processes of its user", want->nproc } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice rest = slice_trim(proc_line(limits, rows[i].line));
        uint64_t hard;
        (void)slice_cut(&rest, ' '); /* the soft one */
        rest = slice_trim(rest);
        if (!slice_u64(slice_cut(&rest, ' '), &hard) || hard > rows[i].most)
            return err_set(err, ERR_PRECONDITION, MISSING "a limit of %s, says the kernel",
                           rows[i].name);
    }
    return 0;
}

int engine_walls_devices(struct slice devices, struct err *err)
{
    static const char *const kernels[] = { "tunl0",    "gre0",    "gretap0", "erspan0", "ip_vti0",
                                           "ip6_vti0", "ip6tnl0", "ip6gre0", "sit0" };
    bool loopback = false;

    while (devices.size) {
        struct slice line = slice_cut(&devices, '\n');
        if (!line.size || !memchr(line.data, ':', line.size)) /* its head */
            continue;
        struct slice name = slice_trim(slice_cut(&line, ':'));
        bool known = slice_is(name, "lo");
        loopback = loopback || known;
        for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
            known = known || slice_is(name, kernels[i]);
        if (!known)
            return err_set(err, ERR_PRECONDITION,
                           MISSING "it has a network ('%.*s'), says the kernel", SLICE_FMT(name));
    }
    if (!loopback)
        return err_set(err, ERR_PRECONDITION, MISSING "its network cannot be seen");
    return 0;
}

int engine_walls_bounds(const struct engine_container *want, const struct engine_bounds *bounds,
                        struct err *err)
{
    /* The kernel rounds memory to pages, and a share of a core to what its period allows. */
    const char *missing = bounds->memory_bytes > want->memory_bytes        ? "memory"
                          : bounds->memory_swap_bytes > want->memory_bytes ? "memory with swap"
                          : bounds->pids > want->pids                      ? "pids"
                          : bounds->cpu_milli > want->cpu_milli + 1        ? "cpu"
                                                                           : NULL;
    if (!missing)
        return 0;
    return err_set(err, ERR_PRECONDITION, MISSING "%s is not bounded in its control group",
                   missing);
}

/* ---- looking --------------------------------------------------------------------------------- */

static uint64_t number_in(const char *folder, const char *name)
{
    return folder[0] ? cgroup_number(folder, name) : UINT64_MAX;
}

static uint64_t milli(uint64_t quota, uint64_t period)
{
    if (quota >= UINT64_MAX / 1000 || period == 0 || period == UINT64_MAX)
        return UINT64_MAX;
    return quota * 1000 / period;
}

/* 0 where the kernel does not count swap: then no group is bounded, or could be. */
static uint64_t with_swap(const char *folder, const char *name, uint64_t more)
{
    char text[64];
    uint64_t swap;

    if (!folder[0] || !cgroup_text(folder, name, text, sizeof text))
        return 0;
    return __builtin_add_overflow(cgroup_number(folder, name), more, &swap) ? UINT64_MAX : swap;
}

static void read_bounds(pid_t pid, struct engine_bounds *ret)
{
    char memory[CGROUP_PATH_BYTES] = "", pids[CGROUP_PATH_BYTES] = "", cpu[CGROUP_PATH_BYTES] = "";
    *ret = (struct engine_bounds){ UINT64_MAX, UINT64_MAX, UINT64_MAX, 0 };

    if (cgroup_find(pid, "memory", memory)) { /* v1, or both beside each other */
        (void)cgroup_find(pid, "pids", pids);
        (void)cgroup_find(pid, "cpu", cpu);
        ret->memory_bytes = number_in(memory, "memory.limit_in_bytes");
        ret->memory_swap_bytes = with_swap(memory, "memory.memsw.limit_in_bytes", 0);
        ret->cpu_milli =
            milli(number_in(cpu, "cpu.cfs_quota_us"), number_in(cpu, "cpu.cfs_period_us"));
    } else if (cgroup_find(pid, "", memory)) {
        char text[128];
        (void)snprintf(pids, sizeof pids, "%s", memory);
        ret->memory_bytes = number_in(memory, "memory.max");
        ret->memory_swap_bytes = with_swap(memory, "memory.swap.max", ret->memory_bytes);
        struct slice rest = { text, cgroup_text(memory, "cpu.max", text, sizeof text) };
        struct slice quota = slice_cut(&rest, ' ');
        uint64_t numbers[2];
        if (slice_u64(quota, &numbers[0]) && slice_u64(slice_cut(&rest, '\n'), &numbers[1]))
            ret->cpu_milli = milli(numbers[0], numbers[1]);
    }
    ret->pids = number_in(pids, "pids.max");
}

static int look_mounts(pid_t pid, const struct engine_container *want, struct err *err)
{
    auto_free char *text = mem_alloc(MOUNTS_BYTES);
    size_t size = proc_read(pid, "mountinfo", text, MOUNTS_BYTES);

    return engine_walls_mounts(want, (struct slice){ text, size }, err);
}

static int look(pid_t pid, const struct engine_container *want, struct err *err)
{
    char text[PROC_TEXT_BYTES], map[1024];
    struct engine_bounds bounds;
    size_t size = proc_read(pid, "status", text, sizeof text);
    int r = engine_walls_status((struct slice){ text, size }, err);

    if (r == 0) {
        struct slice users = { map, proc_read(pid, "uid_map", map, sizeof map) };
        r = engine_walls_user(want, (struct slice){ text, size }, users, err);
    }
    if (r < 0)
        return r;
    size = proc_read(pid, "limits", text, sizeof text);
    r = engine_walls_limits(want, (struct slice){ text, size }, err);
    if (r < 0)
        return r;
    if (want->network == ENGINE_NETWORK_NONE) {
        size = proc_read(pid, "net/dev", text, sizeof text);
        r = engine_walls_devices((struct slice){ text, size }, err);
        if (r < 0)
            return r;
    }
    r = look_mounts(pid, want, err);
    if (r < 0)
        return r;
    read_bounds(pid, &bounds);
    return engine_walls_bounds(want, &bounds, err);
}

int engine_walls_look(pid_t pid, const struct engine_container *want, struct err *err)
{
    int r = look(pid, want, err);

    /* One that ends is out of its group first. */
    if (r < 0 && proc_ending(pid))
        return err_set(err, ERR_NOT_FOUND, "the container's process is gone");
    return r;
}
