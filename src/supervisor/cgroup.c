/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/fd.h"

enum { FILE_BYTES = CGROUP_PATH_BYTES + 128 };

/* A file of a group to be written, or the folder itself. */
static int open_in(const char *folder, const char *name, int flags)
{
    char path[FILE_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return open(path, flags | O_CLOEXEC);
}

[[gnu::format(printf, 3, 4)]] static bool write_file(const char *folder, const char *name,
                                                     const char *format, ...)
{
    char text[64];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    auto_close int fd = open_in(folder, name, O_WRONLY);
    return fd >= 0 && write(fd, text, (size_t)size) == size;
}

/* ---- one group ------------------------------------------------------------------------------- */

static bool group_path(const char *folder, uint64_t id, char ret_path[static CGROUP_PATH_BYTES])
{
    return snprintf(ret_path, CGROUP_PATH_BYTES, "%s/perigee-%d-%" PRIu64, folder, (int)getpid(),
                    id) < CGROUP_PATH_BYTES;
}

static bool make_group(const char *folder, uint64_t id, char ret_path[static CGROUP_PATH_BYTES])
{
    return group_path(folder, id, ret_path) && (mkdir(ret_path, 0755) == 0 || errno == EEXIST);
}

static void remove_group(const char *folder, uint64_t id)
{
    char path[CGROUP_PATH_BYTES];
    if (group_path(folder, id, path))
        (void)rmdir(path);
}

/* Makes the group with its bounds. */
static bool make_bounded(const struct cgroups *self, uint64_t id, uint64_t memory_bytes_max,
                         uint32_t processes_max)
{
    char memory[CGROUP_PATH_BYTES], pids[CGROUP_PATH_BYTES];
    bool v1 = self->version == 1;
    return make_group(self->memory, id, memory) &&
           make_group(v1 ? self->pids : self->memory, id, pids) &&
           write_file(memory, v1 ? "memory.limit_in_bytes" : "memory.max", "%" PRIu64,
                      memory_bytes_max) &&
           write_file(pids, "pids.max", "%" PRIu32, processes_max);
}

uint32_t cgroups_open(struct cgroups *self, uint64_t id, uint64_t memory_bytes_max,
                      uint32_t processes_max, int ret_fds[static PERIGEE_GROUPS_MAX])
{
    char memory[CGROUP_PATH_BYTES], pids[CGROUP_PATH_BYTES];
    if (self->version == 0 || !make_bounded(self, id, memory_bytes_max, processes_max) ||
        !group_path(self->memory, id, memory))
        return 0;
    (void)map_put_u64(&self->waited, id, self);
    ret_fds[0] = self->version == 2 ? open_in(memory, ".", O_RDONLY | O_DIRECTORY)
                                    : open_in(memory, "tasks", O_WRONLY);
    if (ret_fds[0] < 0 || self->version == 2)
        return ret_fds[0] >= 0;
    ret_fds[1] = group_path(self->pids, id, pids) ? open_in(pids, "tasks", O_WRONLY) : -1;
    return 1 + (ret_fds[1] >= 0);
}

/* A replica has no children: it is alone where it is. */
static bool is_in(const struct cgroups *self, uint64_t id, pid_t pid)
{
    char memory[CGROUP_PATH_BYTES], pids[CGROUP_PATH_BYTES];
    return group_path(self->memory, id, memory) &&
           cgroup_number(memory, "cgroup.procs") == (uint64_t)pid &&
           (self->version == 2 || (group_path(self->pids, id, pids) &&
                                   cgroup_number(pids, "cgroup.procs") == (uint64_t)pid));
}

static bool put_into(const struct cgroups *self, uint64_t id, pid_t pid)
{
    char memory[CGROUP_PATH_BYTES], pids[CGROUP_PATH_BYTES];
    return group_path(self->memory, id, memory) &&
           write_file(memory, "cgroup.procs", "%d", (int)pid) &&
           (self->version == 2 ||
            (group_path(self->pids, id, pids) && write_file(pids, "cgroup.procs", "%d", (int)pid)));
}

bool cgroups_enter(struct cgroups *self, uint64_t id, pid_t pid, uint64_t memory_bytes_max,
                   uint32_t processes_max)
{
    if (self->version == 0)
        return false;
    (void)map_put_u64(&self->waited, id, self);
    if (is_in(self, id, pid))
        return true;
    if (make_bounded(self, id, memory_bytes_max, processes_max) && put_into(self, id, pid))
        return true;
    if (self->version == 1) /* back to ours, should it be in one of the two */
        (void)write_file(self->memory, "cgroup.procs", "%d", (int)pid);
    (void)cgroups_remove(self, id);
    return false;
}

bool cgroups_remove(struct cgroups *self, uint64_t id)
{
    char group[CGROUP_PATH_BYTES];
    (void)map_remove_u64(&self->waited, id);
    if (self->version == 0 || !group_path(self->memory, id, group))
        return false;
    uint64_t kills = cgroup_kills(group);
    remove_group(self->memory, id);
    if (self->version == 1)
        remove_group(self->pids, id);
    return kills > 0;
}

/* ---- start and end --------------------------------------------------------------------------- */

/* Empty ones: ours that are not `waited` for; with NULL those of supervisors that are no more. */
static void remove_left(const char *folder, const struct map *waited)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        int pid;
        uint64_t id;
        char path[FILE_BYTES + 256];
        if (sscanf(entry->d_name, "perigee-%d-%" SCNu64, &pid, &id) != 2 ||
            (pid == getpid()) != !!waited || (waited && map_get_u64(waited, id)) ||
            (!waited && (kill(pid, 0) == 0 || errno != ESRCH)))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        (void)rmdir(path);
    }
    if (dir)
        (void)closedir(dir);
}

void cgroups_sweep(const struct cgroups *self)
{
    if (self->version > 0)
        remove_left(self->memory, &self->waited);
    if (self->version == 1)
        remove_left(self->pids, &self->waited);
}

/* Under v2 a group gives controllers to those below it only when no process is in it, but for the
 * root. */
static bool open_v2(struct cgroups *self)
{
    char own[CGROUP_PATH_BYTES];
    if (write_file(self->memory, "cgroup.subtree_control", "+memory +pids"))
        return true;
    if (!make_group(self->memory, 0, own) || !write_file(own, "cgroup.procs", "%d", (int)getpid()))
        return false;
    if (write_file(self->memory, "cgroup.subtree_control", "+memory +pids"))
        return true;
    (void)write_file(self->memory, "cgroup.procs", "%d", (int)getpid());
    remove_group(self->memory, 0);
    return false;
}

/* What is written is what a replica's will be. */
static bool try_group(struct cgroups *self)
{
    bool made = make_bounded(self, UINT32_MAX, UINT64_C(1) << 30, 16);
    int error = errno;
    (void)cgroups_remove(self, UINT32_MAX);
    errno = error;
    return made;
}

static bool has_controllers(const char *folder)
{
    char text[4096];
    return cgroup_text(folder, "cgroup.controllers", text, sizeof text) && strstr(text, "memory") &&
           strstr(text, "pids");
}

/* A supervisor that became another program is in the group 0 that it made before. */
static void leave_own(char folder[static CGROUP_PATH_BYTES])
{
    char own[CGROUP_PATH_BYTES];
    size_t size = strlen(folder);
    if (!group_path("", 0, own) || size < strlen(own))
        return;
    char *tail = folder + size - strlen(own);
    if (strcmp(tail, own) == 0)
        *tail = '\0';
}

void cgroups_init(struct cgroups *self)
{
    *self = (struct cgroups){};
    if (cgroup_find(0, "", self->memory))
        leave_own(self->memory);
    if (self->memory[0] && has_controllers(self->memory)) {
        self->version = 2;
        remove_left(self->memory, NULL);
        if (open_v2(self) && try_group(self))
            return;
    } else if (cgroup_find(0, "memory", self->memory) && cgroup_find(0, "pids", self->pids)) {
        self->version = 1;
        remove_left(self->memory, NULL);
        remove_left(self->pids, NULL);
        if (try_group(self))
            return;
    }
    int version = self->version;
    self->version = 0;
    if (version == 0)
        (void)snprintf(self->why, sizeof self->why, "no memory and pids controllers here");
    else
        (void)snprintf(self->why, sizeof self->why, "v%d cannot be written: %s", version,
                       strerror(errno));
}

void cgroups_deinit(struct cgroups *self)
{
    map_deinit(&self->waited);
    if (self->version != 2)
        return;
    (void)write_file(self->memory, "cgroup.subtree_control", "-memory -pids");
    (void)write_file(self->memory, "cgroup.procs", "%d", (int)getpid());
    remove_group(self->memory, 0);
}
