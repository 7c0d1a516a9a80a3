/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "sys/proc.h"

enum { TEXT_BYTES = 64 * 1024, BELOW_MAX = 8 };

/* Whether a list with commas, such as a mount's options, has this word. */
static bool has_word(const char *list, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    return false;
}

/* Its group's path in the hierarchy of that controller, from /proc/PID/cgroup. */
static bool group_path(pid_t pid, const char *controller, char *text,
                       char ret_path[static CGROUP_PATH_BYTES])
{
    char *rest = text;
    if (!proc_read(pid, "cgroup", text, TEXT_BYTES))
        return false;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        (void)strsep(&line, ":");
        const char *controllers = strsep(&line, ":");
        if (!controllers || !line ||
            !(*controller ? has_word(controllers, controller) : !*controllers))
            continue;
        (void)snprintf(ret_path, CGROUP_PATH_BYTES, "%s", strcmp(line, "/") == 0 ? "" : line);
        return strlen(line) < CGROUP_PATH_BYTES;
    }
    return false;
}

/* A line of mountinfo that is a mount of cgroups. */
struct mount {
    char root[CGROUP_PATH_BYTES], at[CGROUP_PATH_BYTES], type[16], options[256];
};

static bool mount_parse(const char *line, struct mount *ret)
{
    const char *tail = strstr(line, " - ");
    return tail && sscanf(line, "%*d %*d %*s %1023s %1023s", ret->root, ret->at) == 2 &&
           sscanf(tail, " - %15s %*s %255s", ret->type, ret->options) == 2 &&
           (strcmp(ret->type, "cgroup") == 0 || strcmp(ret->type, "cgroup2") == 0);
}

/* Of a path in the hierarchy of that controller. */
static bool find_folder(const char *controller, const char *path, char *text,
                        char ret_folder[static CGROUP_PATH_BYTES])
{
    char *rest = text;
    if (!proc_read(getpid(), "mountinfo", text, TEXT_BYTES))
        return false;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        struct mount mount;
        if (!mount_parse(line, &mount) ||
            strcmp(mount.type, *controller ? "cgroup" : "cgroup2") != 0 ||
            (*controller && !has_word(mount.options, controller)))
            continue;
        size_t size = strcmp(mount.root, "/") == 0 ? 0 : strlen(mount.root);
        if (strncmp(path, mount.root, size) != 0)
            continue; /* a mount of another part */
        return snprintf(ret_folder, CGROUP_PATH_BYTES, "%s%s", mount.at, path + size) <
               CGROUP_PATH_BYTES;
    }
    return false;
}

bool cgroup_find(pid_t pid, const char *controller, char ret_folder[static CGROUP_PATH_BYTES])
{
    auto_free char *text = mem_alloc(TEXT_BYTES);
    char path[CGROUP_PATH_BYTES];
    return group_path(pid ? pid : getpid(), controller, text, path) &&
           find_folder(controller, path, text, ret_folder);
}

bool cgroup_folder(const char *controller, const char *path,
                   char ret_folder[static CGROUP_PATH_BYTES])
{
    auto_free char *text = mem_alloc(TEXT_BYTES);
    return find_folder(controller, path, text, ret_folder);
}

size_t cgroup_text(const char *folder, const char *name, char *text, size_t room)
{
    char path[CGROUP_PATH_BYTES + 128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return proc_file(path, text, room);
}

uint64_t cgroup_number(const char *folder, const char *name)
{
    char text[64];
    size_t size = cgroup_text(folder, name, text, sizeof text);
    if (size == 0 || text[0] < '0' || text[0] > '9')
        return UINT64_MAX;
    return strtoull(text, NULL, 10);
}

uint64_t cgroup_usage_us(const char *folder)
{
    char text[4096];
    size_t size = cgroup_text(folder, "cpu.stat", text, sizeof text);
    uint64_t usage = proc_number((struct slice){ text, size }, "usage_usec ", 10);
    if (usage != UINT64_MAX)
        return usage;
    usage = cgroup_number(folder, "cpuacct.usage");
    return usage == UINT64_MAX ? usage : usage / 1000;
}

/* Kernel's files in it are no hindrance; groups are, the lowest goes first. */
static bool remove_below(const char *folder, unsigned depth)
{
    if (rmdir(folder) == 0 || errno == ENOENT)
        return true;
    DIR *all = depth < BELOW_MAX ? opendir(folder) : NULL;
    if (!all)
        return false;
    for (const struct dirent *entry = readdir(all); entry; entry = readdir(all)) {
        char below[2 * CGROUP_PATH_BYTES];
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
            snprintf(below, sizeof below, "%s/%s", folder, entry->d_name) < (int)sizeof below)
            (void)remove_below(below, depth + 1);
    }
    (void)closedir(all);
    return rmdir(folder) == 0 || errno == ENOENT;
}

/* The folder of the group of that path in each hierarchy that is mounted here whole, whether it has
 * it or not. */
static bool each_folder(const char *path, void (*on_folder)(const char *folder, void *data),
                        void *data)
{
    auto_free char *text = mem_alloc(TEXT_BYTES);
    char *rest = text;
    if (!proc_read(getpid(), "mountinfo", text, TEXT_BYTES))
        return false;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        struct mount mount;
        char folder[2 * CGROUP_PATH_BYTES];
        if (!mount_parse(line, &mount) || strcmp(mount.root, "/") != 0)
            continue;
        (void)snprintf(folder, sizeof folder, "%s%s", mount.at, path);
        on_folder(folder, data);
    }
    return true;
}

static void on_remove(const char *folder, void *data)
{
    bool *gone = data;
    *gone = remove_below(folder, 0) && *gone;
}

bool cgroup_remove(const char *path)
{
    bool gone = true;
    return each_folder(path, on_remove, &gone) && gone;
}

struct names {
    void (*on_name)(const char *name, void *data);
    void *data;
};

static void on_list(const char *folder, void *data)
{
    const struct names *names = data;
    DIR *all = opendir(folder);
    if (!all)
        return;
    for (const struct dirent *entry = readdir(all); entry; entry = readdir(all))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            names->on_name(entry->d_name, names->data);
    (void)closedir(all);
}

void cgroup_each(const char *path, void (*on_name)(const char *name, void *data), void *data)
{
    struct names names = { on_name, data };
    (void)each_folder(path, on_list, &names);
}

uint64_t cgroup_kills(const char *folder)
{
    char text[4096];
    size_t size = cgroup_text(folder, "memory.events", text, sizeof text); /* v2 */
    if (size == 0)
        size = cgroup_text(folder, "memory.oom_control", text, sizeof text);
    uint64_t kills = proc_number((struct slice){ text, size }, "oom_kill ", 10);
    return kills == UINT64_MAX ? 0 : kills;
}
