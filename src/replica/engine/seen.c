/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine says of a container. Docker says NanoCpus as it was asked, Podman a quota beside
 * it; limits are "nofile" here and "RLIMIT_NOFILE" there; what has no value may be null, "" or
 * left out. Whatever has not the type that it should have counts as not there. */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"

bool engine_is_id(struct slice text)
{
    if (text.size != ENGINE_ID_BYTES)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!((text.data[i] >= '0' && text.data[i] <= '9') ||
              (text.data[i] >= 'a' && text.data[i] <= 'f')))
            return false;
    return true;
}

bool engine_is_gpus(struct slice text)
{
    if (text.size > ENGINE_GPUS_BYTES)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '-' || (c == ',' && i > 0 && i + 1 < text.size && text.data[i - 1] != ',')))
            return false;
    }
    return true;
}

static struct slice text_of(yyjson_val *object, const char *key)
{
    return json_slice(json_member(object, key));
}

static bool flag_of(yyjson_val *object, const char *key)
{
    return yyjson_is_true(json_member(object, key));
}

/* 0 where it is no whole number that fits. */
static int64_t number_of(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);

    if (yyjson_is_uint(value))
        return yyjson_get_uint(value) <= INT64_MAX ? (int64_t)yyjson_get_uint(value) : 0;
    return yyjson_is_sint(value) ? yyjson_get_sint(value) : 0;
}

static bool filled(yyjson_val *value)
{
    return yyjson_get_len(value) > 0 && (yyjson_is_arr(value) || yyjson_is_obj(value));
}

static uint64_t label_number(yyjson_val *labels, const char *key)
{
    uint64_t number;
    return slice_u64(text_of(labels, key), &number) ? number : 0;
}

static void read_mounts(struct arena *arena, yyjson_val *list, struct engine_seen *seen)
{
    struct engine_mount *mounts =
        ARENA_ARRAY(arena, struct engine_mount, yyjson_arr_size(list) + 1);
    yyjson_val *item;
    yyjson_arr_iter iter;

    yyjson_arr_iter_init(list, &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        struct engine_mount mount = { text_of(item, "Type"), text_of(item, "Name"),
                                      text_of(item, "Destination") };
        if (!slice_is(mount.type, "tmpfs"))
            mounts[seen->mount_count++] = mount;
    }
    seen->mounts = mounts;
}

static void read_binds(struct arena *arena, yyjson_val *list, struct engine_seen *seen)
{
    struct slice *binds = ARENA_ARRAY(arena, struct slice, yyjson_arr_size(list) + 1);
    yyjson_val *item;
    yyjson_arr_iter iter;

    yyjson_arr_iter_init(list, &iter);
    while ((item = yyjson_arr_iter_next(&iter)))
        binds[seen->bind_count++] = json_slice(item);
    seen->binds = binds;
}

/* Joined by commas; empty: they are not such as we ask for. */
static struct slice gpu_ids_of(struct arena *arena, yyjson_val *ids)
{
    const char *text = "";
    yyjson_val *item;
    yyjson_arr_iter iter;

    if (yyjson_arr_size(ids) > ENGINE_GPUS_MAX)
        return (struct slice){};
    yyjson_arr_iter_init(ids, &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        struct slice id = json_slice(item);
        if (!id.size || memchr(id.data, ',', id.size))
            return (struct slice){};
        text = arena_format(arena, "%s%s%.*s", text, *text ? "," : "", SLICE_FMT(id));
    }
    return engine_is_gpus(slice_of(text)) ? slice_of(text) : (struct slice){};
}

/* Of one request, as we make it; 0: there is none, or another. */
static int64_t gpus_of(struct arena *arena, yyjson_val *requests, struct slice *ret_ids)
{
    yyjson_val *one = yyjson_arr_get(requests, 0), *wanted = json_member(one, "Capabilities");
    yyjson_val *of = yyjson_arr_get(wanted, 0);

    if (yyjson_arr_size(requests) != 1 || !slice_is(text_of(one, "Driver"), "nvidia") ||
        yyjson_arr_size(wanted) != 1 || yyjson_arr_size(of) != 1 ||
        !slice_is(json_slice(yyjson_arr_get(of, 0)), "gpu") || filled(json_member(one, "Options")))
        return 0;
    if (!filled(json_member(one, "DeviceIDs")))
        return number_of(one, "Count") > 0 ? number_of(one, "Count") : 0;
    *ret_ids = gpu_ids_of(arena, json_member(one, "DeviceIDs"));
    return ret_ids->size && number_of(one, "Count") == 0
               ? (int64_t)yyjson_arr_size(json_member(one, "DeviceIDs"))
               : 0;
}

static void read_security(yyjson_val *host, struct engine_seen *seen)
{
    yyjson_val *item;
    yyjson_arr_iter iter;

    yyjson_arr_iter_init(json_member(host, "SecurityOpt"), &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        struct slice option = json_slice(item);
        if (slice_is(option, "no-new-privileges") || slice_is(option, "no-new-privileges:true") ||
            slice_is(option, "no-new-privileges=true"))
            seen->no_new_privileges = true;
        if (slice_is(option, "seccomp=unconfined") || slice_is(option, "seccomp:unconfined"))
            seen->seccomp_off = true;
    }
}

static void read_limits(yyjson_val *host, struct engine_seen *seen)
{
    yyjson_val *item;
    yyjson_arr_iter iter;

    yyjson_arr_iter_init(json_member(host, "Ulimits"), &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        struct slice name = text_of(item, "Name");
        struct engine_limit limit = { true, number_of(item, "Soft"), number_of(item, "Hard") };
        if (slice_is(name, "nofile") || slice_is(name, "RLIMIT_NOFILE"))
            seen->nofile = limit;
        if (slice_is(name, "nproc") || slice_is(name, "RLIMIT_NPROC"))
            seen->nproc = limit;
    }
}

static bool shared(yyjson_val *host, const char *key)
{
    struct slice mode = text_of(host, key);
    return slice_is(mode, "host") || slice_starts(mode, SLICE("container:"));
}

static int64_t read_cpu_milli(yyjson_val *host)
{
    int64_t nano = number_of(host, "NanoCpus"), quota = number_of(host, "CpuQuota"),
            period = number_of(host, "CpuPeriod");

    if (nano > 0)
        return nano / 1'000'000;
    return quota > 0 && period > 0 && quota < INT64_MAX / 1000 ? quota * 1000 / period : 0;
}

static bool dns_nowhere(yyjson_val *host)
{
    yyjson_val *servers = json_member(host, "Dns");

    return yyjson_arr_size(servers) == 1 &&
           slice_is(json_slice(yyjson_arr_get(servers, 0)), ENGINE_DNS_NOWHERE);
}

static void read_host(struct arena *arena, yyjson_val *host, struct engine_seen *seen)
{
    seen->privileged = flag_of(host, "Privileged");
    seen->read_only = flag_of(host, "ReadonlyRootfs");
    seen->capabilities_added = filled(json_member(host, "CapAdd"));
    seen->gpus = gpus_of(arena, json_member(host, "DeviceRequests"), &seen->gpu_ids);
    seen->devices = filled(json_member(host, "Devices")) ||
                    (filled(json_member(host, "DeviceRequests")) && !seen->gpus);
    read_binds(arena, json_member(host, "Binds"), seen);
    seen->tmp = yyjson_is_str(json_member(json_member(host, "Tmpfs"), "/tmp"));
    seen->shares = shared(host, "NetworkMode") || shared(host, "PidMode") ||
                   shared(host, "IpcMode") || shared(host, "UTSMode") || shared(host, "UsernsMode");
    seen->pids = number_of(host, "PidsLimit");
    seen->memory_bytes = number_of(host, "Memory");
    seen->memory_swap_bytes = number_of(host, "MemorySwap");
    seen->cpu_milli = read_cpu_milli(host);
    seen->shm_bytes = number_of(host, "ShmSize");
    seen->network = text_of(host, "NetworkMode");
    seen->dns_nowhere = dns_nowhere(host);
    seen->cgroup_parent = text_of(host, "CgroupParent");
    read_security(host, seen);
    read_limits(host, seen);
}

/* Podman calls any network's mode "bridge": which it is stands here. */
static void read_networks(yyjson_val *root, struct engine_seen *seen)
{
    yyjson_val *networks = json_member(json_member(root, "NetworkSettings"), "Networks");
    yyjson_obj_iter iter;

    seen->attached_count = yyjson_obj_size(networks);
    yyjson_obj_iter_init(networks, &iter);
    yyjson_val *first = yyjson_obj_iter_next(&iter);
    if (!first)
        return;
    seen->attached = json_slice(first);
    seen->address = text_of(yyjson_obj_iter_get_val(first), "IPAddress");
}

int engine_seen_parse(struct arena *arena, struct slice text, struct engine_seen *ret,
                      struct err *err)
{
    static const struct json_limits limits = { .bytes_max = ENGINE_ANSWER_BYTES_MAX,
                                               .duplicates_allowed = true };
    yyjson_val *root, *state, *config, *labels;
    struct engine_seen seen = {};
    int r = json_parse(arena, text, &limits, &root, err);

    if (r < 0)
        return err_wrap(err, "what the engine says of a container cannot be read");
    state = json_member(root, "State");
    config = json_member(root, "Config");
    labels = json_member(config, "Labels");
    seen.id = text_of(root, "Id");
    if (!engine_is_id(seen.id))
        return err_set(err, ERR_BAD_INPUT, "the engine gives a container the id '%s'",
                       ERR_SLICE(seen.id));
    seen.image = text_of(root, "Image");
    seen.status = text_of(state, "Status");
    seen.error = text_of(state, "Error");
    seen.running = flag_of(state, "Running");
    seen.out_of_memory = flag_of(state, "OOMKilled");
    seen.pid = number_of(state, "Pid");
    if (seen.pid < 0 || seen.pid > INT32_MAX)
        return err_set(err, ERR_BAD_INPUT, "the engine gives a container the process %lld",
                       (long long)seen.pid);
    seen.exit_code = number_of(state, "ExitCode");
    seen.user = text_of(config, "User");
    seen.home = text_of(labels, ENGINE_LABEL_HOME);
    seen.revision = label_number(labels, ENGINE_LABEL_REVISION);
    seen.replica = label_number(labels, ENGINE_LABEL_REPLICA);
    read_mounts(arena, json_member(root, "Mounts"), &seen);
    read_networks(root, &seen);
    read_host(arena, json_member(root, "HostConfig"), &seen);
    *ret = seen;
    return 0;
}
