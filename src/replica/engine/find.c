/* SPDX-License-Identifier: Apache-2.0 */
/* Which engine there is, and whether it is one that we can use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/engine.h"

static bool is_socket(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int find_told(const char *what, struct slice text, struct address *ret, struct err *err)
{
    struct slice path = text;
    char plain[200];

    if (slice_starts(text, SLICE("unix://"))) /* as Docker writes it */
        path = (struct slice){ plain, (size_t)snprintf(plain, sizeof plain, "unix:%.*s",
                                                       (int)text.size - 7, text.data + 7) };
    if (!slice_starts(path, SLICE("unix:")) || path.size >= sizeof plain)
        return err_set(err, ERR_BAD_INPUT,
                       "%s: '%s' is not unix:PATH; engines are asked over their "
                       "Unix socket alone",
                       what, ERR_SLICE(text));
    if (address_parse(path, ret, err) < 0)
        return err_wrap(err, "%s", what);
    if (!is_socket(ret->path))
        return err_set(err, ERR_NOT_FOUND, "%s: there is no socket at '%s'; is the engine started?",
                       what, ERR_TEXT(ret->path));
    return 0;
}

int engine_find(struct slice told, struct address *ret, struct err *err)
{
    const char *host = getenv("DOCKER_HOST"), *run = getenv("XDG_RUNTIME_DIR");
    char usual[3][200] = { "", "/run/podman/podman.sock", "/var/run/docker.sock" };

    if (told.size)
        return find_told("--engine", told, ret, err);
    if (host && *host)
        return find_told("DOCKER_HOST", slice_of(host), ret, err);
    if (run && *run && geteuid() != 0)
        (void)snprintf(usual[0], sizeof usual[0], "%s/podman/podman.sock", run);
    for (size_t i = 0; i < 3; i++) {
        if (!usual[i][0] || !is_socket(usual[i]))
            continue;
        char text[sizeof usual[0] + 8];
        (void)snprintf(text, sizeof text, "unix:%.*s", (int)sizeof usual[0] - 1, usual[i]);
        return address_parse(slice_of(text), ret, err);
    }
    return err_set(
        err, ERR_NOT_FOUND,
        "there is no container engine: install podman and start `podman system service`, "
        "or docker.io; or name its socket with --engine unix:PATH");
}

/* ---- who it is ------------------------------------------------------------------------------- */

static void keep(char *to, size_t room, yyjson_val *object, const char *key)
{
    struct slice text = json_slice(json_member(object, key));
    size_t at = 0;
    for (size_t i = 0; i < text.size && at + 1 < room; i++)
        if (text.data[i] >= ' ' && text.data[i] < 0x7f)
            to[at++] = text.data[i];
    to[at] = '\0';
}

/* "1.41": its second number; 0 where it is none. */
static uint64_t minor(struct slice text)
{
    uint64_t major, number;
    struct slice rest = text;
    if (!slice_u64(slice_cut(&rest, '.'), &major) || major != 1 || !slice_u64(rest, &number))
        return 0;
    return number;
}

int engine_version_parse(struct slice text, struct engine_version *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = 1 << 20, .duplicates_allowed = true };
    struct arena *arena = arena_new();
    struct engine_version version = { .name = "Docker" };
    yyjson_val *root, *item;
    yyjson_arr_iter iter;
    int r = json_parse(arena, text, &limits, &root, err);

    if (r < 0) {
        arena_free(arena);
        return err_wrap(err, "what answers there is no container engine");
    }
    yyjson_arr_iter_init(json_member(root, "Components"), &iter);
    while ((item = yyjson_arr_iter_next(&iter)))
        if (slice_starts(json_slice(json_member(item, "Name")), SLICE("Podman"))) {
            version.podman = true;
            (void)snprintf(version.name, sizeof version.name, "Podman");
        }
    keep(version.version, sizeof version.version, root, "Version");
    keep(version.system, sizeof version.system, root, "Os");
    keep(version.machine, sizeof version.machine, root, "Arch");
    struct slice newest = json_slice(json_member(root, "ApiVersion"));
    struct slice oldest = json_slice(json_member(root, "MinAPIVersion"));
    if (!version.version[0] || !minor(newest))
        r = err_set(err, ERR_BAD_INPUT,
                    "what answers there is no container engine: it tells no "
                    "version");
    else if (minor(newest) < ENGINE_API_MINOR)
        r = err_set(err, ERR_NOT_SUPPORTED,
                    "%s %s speaks API 1.%d at most, and 1.%d is needed (Docker 20.10, Podman 4.3 "
                    "or later)",
                    version.name, version.version, (int)minor(newest), ENGINE_API_MINOR);
    (void)snprintf(version.api, sizeof version.api, "1.%d",
                   minor(oldest) > ENGINE_API_MINOR ? (int)minor(oldest) : ENGINE_API_MINOR);
    arena_free(arena);
    if (r == 0)
        *ret = version;
    return r;
}

/* ---- what it can ----------------------------------------------------------------------------- */

static bool can(yyjson_val *root, const char *key)
{
    return yyjson_is_true(json_member(root, key));
}

int engine_info_parse(struct slice text, struct engine_info *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = 1 << 20, .duplicates_allowed = true };
    struct arena *arena = arena_new();
    struct engine_info info = { .cgroup_version = 1 };
    yyjson_val *root, *item;
    yyjson_arr_iter iter;
    int r = json_parse(arena, text, &limits, &root, err);

    if (r < 0) {
        arena_free(arena);
        return err_wrap(err, "what the engine says of itself cannot be read");
    }
    info.memory = can(root, "MemoryLimit");
    info.pids = can(root, "PidsLimit");
    info.cpu = can(root, "CpuCfsQuota");
    yyjson_arr_iter_init(json_member(root, "SecurityOptions"), &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        info.seccomp |= slice_starts(json_slice(item), SLICE("name=seccomp")) &&
                        !slice_ends(json_slice(item), SLICE("profile=unconfined"));
        info.rootless |= slice_is(json_slice(item), "name=rootless");
    }
    info.rootless |= can(root, "Rootless");
    if (slice_is(json_slice(json_member(root, "CgroupVersion")), "2"))
        info.cgroup_version = 2;
    keep(info.cgroup_driver, sizeof info.cgroup_driver, root, "CgroupDriver");
    keep(info.root, sizeof info.root, root, "DockerRootDir");
    arena_free(arena);
    *ret = info;
    return 0;
}

int engine_info_room(const struct engine_info *info, uint64_t bytes, const char *folder,
                     uint64_t first_bytes, struct err *err)
{
    struct statvfs disk;
    struct stat root, other;

    if (!info->root[0] || statvfs(info->root, &disk) < 0 || stat(info->root, &root) < 0)
        return 0;
    if (!folder || stat(folder, &other) < 0 || other.st_dev != root.st_dev)
        first_bytes = 0;
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (free_bytes >= first_bytes && (free_bytes - first_bytes) / 2 >= bytes)
        return 0;
    return err_set(err, ERR_OVERLOADED,
                   "the engine's disk (%s) has %llu MiB free, and %s the image's %llu MiB are "
                   "needed until it has it",
                   ERR_TEXT(info->root), (unsigned long long)(free_bytes >> 20),
                   first_bytes ? "three times" : "twice", (unsigned long long)(bytes >> 20));
}

bool engine_info_whole(const struct engine_info *info, char *lacks, size_t room)
{
    const struct {
        bool there;
        const char *name;
    } rows[] = { { info->seccomp, "seccomp" },
                 { info->memory, "memory" },
                 { info->pids, "pids" },
                 { info->cpu, "cpu" } };
    size_t at = 0;

    lacks[0] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!rows[i].there && at < room)
            at += (size_t)snprintf(lacks + at, room - at, "%s%s", at ? ", " : "", rows[i].name);
    return at == 0;
}
