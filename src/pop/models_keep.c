/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which model folders stay. Where models are pulled, those that nothing runs any more stay as well,
 * so that an endpoint that comes back finds its own: the ones that were run last, as long as all
 * folders together are within a bound, one that is being pulled included; and on a full disk they
 * give way to it. A folder's time of change says when it was last needed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/log.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "pop/pop.h"
#include "sys/room.h"

enum { FOLDER_DEPTH_MAX = 16, FOLDERS_MAX = 4096 };

struct kept {
    char name[65];
    uint64_t bytes;
    int64_t used_ns;
};

struct keeping {
    struct agent *agent;
    char models[MESSAGE_PATH_BYTES + 16];
    struct kept items[FOLDERS_MAX]; /* that nothing needs */
    size_t count;
    uint64_t bytes; /* of all */
};

static bool needed(struct agent *agent, struct slice hex)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (slice_ends(slice_of(revision->digest), hex))
                return true;
    return false;
}

static uint64_t folder_bytes(int parent_fd, const char *name, int depth)
{
    uint64_t bytes = 0;
    int fd = depth < FOLDER_DEPTH_MAX
                 ? openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                 : -1;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        bytes +=
            S_ISDIR(st.st_mode) ? folder_bytes(fd, entry->d_name, depth + 1) : (uint64_t)st.st_size;
    }
    if (dir)
        closedir(dir);
    return bytes;
}

static void folder_go(struct keeping *keeping, const char *name)
{
    char path[sizeof keeping->models + 300];
    snprintf(path, sizeof path, "%s/%s", keeping->models, name);
    agent_model_folder_remove(path);
    log_info("pop", "model folder removed", LOG_S("folder", name));
}

static void look(struct keeping *keeping, int models_fd, const char *name)
{
    struct agent *agent = keeping->agent;
    struct slice hex = slice_of(name);
    struct stat st;
    /* Where nothing is pulled one is made within one turn of the loop: that there is, is left over
     * from an agent that was killed, and holds on to its blobs' bytes. */
    bool unfinished = slice_starts(hex, SLICE(".new-"));
    if (unfinished ? agent->pulls > 0 : hex.size != 64)
        return;
    if (!unfinished && needed(agent, hex)) {
        (void)utimensat(models_fd, name, NULL, 0);
        if (agent_pulls(agent))
            keeping->bytes += folder_bytes(models_fd, name, 0);
        return;
    }
    if (unfinished || !agent_pulls(agent) || keeping->count == FOLDERS_MAX ||
        fstatat(models_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        folder_go(keeping, name);
        return;
    }
    struct kept *kept = &keeping->items[keeping->count++];
    memcpy(kept->name, name, sizeof kept->name);
    kept->bytes = folder_bytes(models_fd, name, 0);
    kept->used_ns = st.st_mtim.tv_sec * ENV_S + st.st_mtim.tv_nsec;
    keeping->bytes += kept->bytes;
}

static int by_use(const void *a, const void *b)
{
    int64_t one = ((const struct kept *)a)->used_ns, two = ((const struct kept *)b)->used_ns;
    return (one > two) - (one < two);
}

uint64_t agent_models_bytes_max(const char *text)
{
    struct slice number = slice_of(text ? text : "");
    uint64_t bytes;
    if (!slice_ends(number, SLICE("B")))
        return MODELS_BYTES_MAX;
    number.size--;
    return slice_u64(number, &bytes) ? bytes : MODELS_BYTES_MAX;
}

static struct keeping *look_at_all(struct agent *agent)
{
    struct keeping *keeping = mem_zalloc(sizeof *keeping);
    keeping->agent = agent;
    keeping->bytes = atomic_load(&agent->pull_coming);
    snprintf(keeping->models, sizeof keeping->models, "%s/models", agent->start.home);
    DIR *dir = opendir(keeping->models);
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        look(keeping, dirfd(dir), entry->d_name);
    if (dir)
        closedir(dir);
    qsort(keeping->items, keeping->count, sizeof *keeping->items, by_use);
    return keeping;
}

void agent_models_collect(struct agent *agent)
{
    uint64_t bytes_max = agent_models_bytes_max(getenv(MODELS_ENVIRONMENT));
    struct keeping *keeping = look_at_all(agent);
    for (size_t i = 0; i < keeping->count && keeping->bytes > bytes_max; i++) {
        folder_go(keeping, keeping->items[i].name);
        keeping->bytes -= keeping->items[i].bytes;
    }
    free(keeping);
}

/* A disk that was full on writing is believed, also where it says that there is room: a quota, or
 * others, had it. */
bool agent_models_give_way(struct agent *agent, const struct room_need *need)
{
    uint64_t lacks = room_lacks(agent->start.home, need->bytes), kept = 0, gone = 0;
    if (lacks == 0 && need->refused)
        return true; /* it has room by now */
    if (lacks == 0)
        lacks = need->bytes ? need->bytes : 1;
    struct keeping *keeping = look_at_all(agent);
    for (size_t i = 0; i < keeping->count; i++)
        kept += keeping->items[i].bytes;
    for (size_t i = 0; i < keeping->count && kept >= lacks && gone < lacks; i++) {
        folder_go(keeping, keeping->items[i].name);
        gone += keeping->items[i].bytes;
    }
    free(keeping);
    if (gone)
        log_info("pop", "kept models gave way on a full disk", LOG_U("bytes", gone),
                 LOG_U("to", need->bytes));
    return gone > 0;
}

/* What desired state on disk may still want stays: once the new one is there all is looked at. */
static void on_soon(void *data)
{
    struct agent *agent = data;
    const struct keep_file *file = &agent->keep.files[KEEP_DESIRED];
    atomic_store(&agent->models_posted, false);
    if (!agent->desired_dirty && !file->waits && !file->under_way)
        agent_models_collect(agent);
}

void agent_models_collect_soon(struct agent *agent)
{
    if (!atomic_exchange(&agent->models_posted, true))
        loop_post(agent->loop, on_soon, agent);
}
