/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cache volumes of endpoints: files of this home, each a disk of its own (sys/volume.h), which the
 * engine mounts while a container uses it. The device, and the engine's volume, which names the
 * device, are made anew when they are not there.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/map.h"
#include "pop/volumes_inside.h"
#include "replica/engine/container.h"
#include "replica/engine/volume.h"
#include "store/digest.h"
#include "sys/fd.h"

#define FOLDER "pop/volumes" /* in the home */

static_assert((int)VOLUME_NAME_BYTES <= (int)ENGINE_VOLUME_NAME_MAX,
              "a name that can be told from others'");

const char *volume_file_of(uint64_t endpoint, const struct spec_volume *volume,
                           char ret[static VOLUME_FILE_BYTES])
{
    char digest[DIGEST_TEXT];

    digest_of(volume->path, digest);
    snprintf(ret, VOLUME_FILE_BYTES, "%" PRIx64 "-%.12s-%" PRIu64, endpoint,
             digest + strlen("sha256:"), volume->bytes);
    return ret;
}

const char *volume_path_of(const struct agent *agent, const char *file,
                           char ret[static VOLUME_PATH_BYTES])
{
    snprintf(ret, VOLUME_PATH_BYTES, "%s/" FOLDER "/%s", agent->start.home, file);
    return ret;
}

struct agent_volume *volume_find(const struct agent *agent, const char *file)
{
    struct agent_volume *volume;

    LIST_EACH (volume, &agent->containers.volumes, struct agent_volume, link)
        if (strcmp(volume->file, file) == 0)
            return volume;
    return NULL;
}

void volume_free(struct agent_volume *volume)
{
    fd_close(&volume->device.fd);
    list_remove(&volume->link);
    free(volume);
}

struct agent_volume *volume_attached(struct agent *agent, const char *file, struct err *err)
{
    struct agent_volume *volume = volume_find(agent, file);
    struct volume_device device;
    char path[VOLUME_PATH_BYTES];

    if (volume)
        return volume;
    if (volume_attach(volume_path_of(agent, file, path), &device, err) < 0)
        return NULL;
    volume = mem_zalloc(sizeof *volume);
    volume->device = device;
    snprintf(volume->file, sizeof volume->file, "%s", file);
    snprintf(volume->name, sizeof volume->name, "perigee-%.8s-%s-loop%u",
             agent->containers.home + strlen("sha256:"), file, device.number);
    list_append(&agent->containers.volumes, &volume->link);
    return volume;
}

int agent_volumes_attach(struct agent *agent, const struct pop_revision *revision, struct err *err)
{
    const struct spec_volumes *volumes = &revision->image->spec.container.volumes;
    char file[VOLUME_FILE_BYTES];

    for (size_t i = 0; i < volumes->count; i++)
        if (!volume_attached(
                agent, volume_file_of(revision->endpoint->uid, &volumes->items[i], file), err))
            return err_wrap(err, "the volume '%s'", ERR_SLICE(volumes->items[i].path));
    return 0;
}

void agent_volumes_tell(const struct agent *agent, struct arena *arena,
                        const struct pop_revision *revision, struct engine_container *ret)
{
    const struct spec_volumes *volumes = &revision->image->spec.container.volumes;
    struct engine_volume *told = ARENA_ARRAY(arena, struct engine_volume, volumes->count + 1);
    char file[VOLUME_FILE_BYTES];

    for (size_t i = 0; i < volumes->count; i++) {
        const struct agent_volume *volume =
            volume_find(agent, volume_file_of(revision->endpoint->uid, &volumes->items[i], file));
        told[i].path = volumes->items[i].path;
        told[i].name = slice_of(volume ? volume->name : "");
        told[i].device = slice_of(volume ? volume->device.id : "");
    }
    ret->volumes = told;
    ret->volume_count = volumes->count;
}

uint64_t volume_endpoint(const char *file)
{
    uint64_t uid;

    return sscanf(file, "%" SCNx64 "-", &uid) == 1 ? uid : 0;
}

static void count(struct agent *agent, struct map *sums)
{
    struct stat st;
    char path[VOLUME_PATH_BYTES];
    DIR *dir = opendir(volume_path_of(agent, "", path));

    agent->containers.volume_bytes = 0;
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode) || st.st_size <= 0)
            continue;
        uint64_t uid = volume_endpoint(entry->d_name);
        uintptr_t sum = (uintptr_t)map_get_u64(sums, uid) + (uintptr_t)st.st_size;
        (void)map_put_u64(sums, uid, (void *)sum);
        agent->containers.volume_bytes += (uint64_t)st.st_size;
    }
    if (dir)
        closedir(dir);
}

void agent_volumes_count(struct agent *agent)
{
    struct pop_endpoint *endpoint;
    struct map sums = {};
    bool changed = false;

    count(agent, &sums);
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link) {
        uint64_t bytes = (uintptr_t)map_get_u64(&sums, endpoint->uid);
        changed |= bytes != endpoint->volume_bytes;
        endpoint->volume_bytes = bytes;
    }
    map_deinit(&sums);
    if (changed)
        agent_report_soon(agent);
}

void agent_volumes_close(struct agent *agent)
{
    struct agent_volume *volume;

    LIST_EACH (volume, &agent->containers.volumes, struct agent_volume, link)
        volume_free(volume);
}
