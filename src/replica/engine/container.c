/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/container.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/json.h"

static void member_limit(struct json_writer *w, const char *name, uint64_t value)
{
    json_object_begin(w);
    json_member_text(w, "Name", name);
    json_member_u64(w, "Soft", value);
    json_member_u64(w, "Hard", value);
    json_object_end(w);
}

static void member_list(struct json_writer *w, const char *key, const struct slice *items,
                        size_t count)
{
    json_key(w, key);
    json_array_begin(w);
    for (size_t i = 0; i < count; i++)
        json_string(w, items[i]);
    json_array_end(w);
}

static void env(struct json_writer *w, const struct engine_container *container)
{
    json_key(w, "Env");
    json_array_begin(w);
    for (size_t i = 0; i < container->env_count; i++)
        json_text(w, arena_format(w->arena, "%.*s=%.*s", SLICE_FMT(container->env[i].key),
                                  SLICE_FMT(container->env[i].value)));
    json_text(w, arena_format(w->arena, "PORT=%u", (unsigned)container->port));
    json_array_end(w);
}

static void labels(struct json_writer *w, const struct engine_container *container)
{
    json_key(w, "Labels");
    json_object_begin(w);
    json_member_string(w, ENGINE_LABEL_HOME, container->home);
    json_member_text(w, ENGINE_LABEL_REVISION,
                     arena_format(w->arena, "%" PRIu64, container->revision));
    json_member_text(w, ENGINE_LABEL_REPLICA,
                     arena_format(w->arena, "%" PRIu64, container->replica));
    /* Empty as well: else the image's own label of that name would count. */
    json_member_string(w, ENGINE_LABEL_GPUS,
                       container->gpu_ids.size ? container->gpu_ids : SLICE(""));
    json_object_end(w);
}

static void volumes(struct json_writer *w, const struct engine_container *container)
{
    json_key(w, "Binds");
    json_array_begin(w);
    for (size_t i = 0; i < container->volume_count; i++)
        json_text(w, arena_format(w->arena, "%.*s:%.*s", SLICE_FMT(container->volumes[i].name),
                                  SLICE_FMT(container->volumes[i].path)));
    json_array_end(w);
}

static void gpu_ids(struct json_writer *w, struct slice ids)
{
    json_key(w, "DeviceIDs");
    json_array_begin(w);
    while (ids.data)
        json_string(w, slice_cut(&ids, ','));
    json_array_end(w);
}

/* The NVIDIA container toolkit's words; Docker takes a number or names, not both. */
static void gpus(struct json_writer *w, const struct engine_container *container)
{
    json_key(w, "DeviceRequests");
    json_array_begin(w);
    json_object_begin(w);
    json_member_text(w, "Driver", "nvidia");
    if (container->gpu_ids.size)
        gpu_ids(w, container->gpu_ids);
    else
        json_member_u64(w, "Count", container->gpus);
    json_key(w, "Capabilities");
    json_array_begin(w);
    json_array_begin(w);
    json_text(w, "gpu");
    json_array_end(w);
    json_array_end(w);
    json_object_end(w);
    json_array_end(w);
}

/* MemorySwap as much as Memory: none. The engine's own file of the log is bounded, too. */
static void host(struct json_writer *w, const struct engine_container *container)
{
    static const struct slice security[] = { { "no-new-privileges:true", 22 } };
    static const struct slice dropped[] = { { "ALL", 3 } };
    const struct slice nowhere[] = { SLICE(ENGINE_DNS_NOWHERE) };

    json_key(w, "HostConfig");
    json_object_begin(w);
    member_list(w, "SecurityOpt", security, 1);
    member_list(w, "CapDrop", dropped, 1);
    json_member_bool(w, "ReadonlyRootfs", container->read_only);
    json_key(w, "Tmpfs");
    json_object_begin(w);
    json_member_text(
        w, "/tmp",
        arena_format(w->arena, "rw,nosuid,nodev,mode=1777,size=%" PRIu64, container->tmp_bytes));
    json_object_end(w);
    if (container->volume_count)
        volumes(w, container);
    if (container->gpus)
        gpus(w, container);
    json_member_u64(w, "PidsLimit", container->pids);
    json_member_u64(w, "Memory", container->memory_bytes);
    json_member_u64(w, "MemorySwap", container->memory_bytes);
    json_member_u64(w, "NanoCpus", container->cpu_milli * 1'000'000);
    json_member_u64(w, "ShmSize", container->shm_bytes);
    json_key(w, "Ulimits");
    json_array_begin(w);
    member_limit(w, "nofile", container->nofile);
    member_limit(w, "nproc", container->nproc);
    json_array_end(w);
    if (container->network == ENGINE_NETWORK_NONE)
        json_member_text(w, "NetworkMode", "none");
    if (container->network == ENGINE_NETWORK_OWN) {
        json_member_string(w, "NetworkMode", container->network_name);
        member_list(w, "Dns", nowhere, 1);
    }
    json_member_text(w, "IpcMode", "private");
    if (container->cgroup_parent.size)
        json_member_string(w, "CgroupParent", container->cgroup_parent);
    json_key(w, "LogConfig");
    json_object_begin(w);
    json_member_text(w, "Type", container->log_driver);
    json_key(w, "Config");
    json_object_begin(w);
    json_member_text(w, "max-size", "4m");
    json_object_end(w);
    json_object_end(w);
    json_key(w, "RestartPolicy"); /* who starts it again is us */
    json_object_begin(w);
    json_member_text(w, "Name", "no");
    json_object_end(w);
    json_object_end(w);
}

struct slice engine_container_json(struct arena *arena, const struct engine_container *container)
{
    struct json_writer w;

    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "Image", container->image);
    if (container->command_count) {
        member_list(&w, "Entrypoint", container->command, container->command_count);
        member_list(&w, "Cmd", NULL, 0);
    }
    env(&w, container);
    if (container->user.size)
        json_member_string(&w, "User", container->user);
    labels(&w, container);
    host(&w, container);
    json_object_end(&w);
    return json_end(&w);
}
