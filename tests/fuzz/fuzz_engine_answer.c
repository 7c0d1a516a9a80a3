/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine says of containers, of itself, and of errors: read without trust. */
#include <assert.h>

#include "base/arena.h"
#include "replica/engine/engine.h"
#include "replica/engine/listed.h"
#include "replica/engine/network.h"
#include "replica/engine/stream.h"
#include "replica/engine/volume.h"
#include "replica/engine/walls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct engine_container want = { .memory_bytes = 1, .pids = 1 };
    struct slice text = { (const char *)data, size };
    struct arena *arena = arena_new();
    struct engine_seen seen;
    struct engine_list list;
    struct engine_version version;
    struct engine_event event;
    char room[128];
    if (engine_seen_parse(arena, text, &seen, NULL) == 0) {
        assert(engine_is_id(seen.id) && seen.pid >= 0 && seen.pid <= INT32_MAX);
        if (engine_walls_check(&want, &seen, NULL) == 0)
            assert(seen.no_new_privileges && !seen.privileged && slice_is(seen.network, "none"));
    }
    if (engine_list_parse(arena, text, SLICE("h"), &list, NULL) == 0)
        for (size_t i = 0; i < list.count; i++)
            assert(engine_is_id(list.items[i].id));
    if (engine_version_parse(text, &version, NULL) == 0)
        assert(version.version[0]);
    struct slice error = engine_error_of(text, room, sizeof room);
    for (size_t i = 0; i < error.size; i++)
        assert((unsigned char)error.data[i] >= 0x20);
    if (engine_event_parse(text, &event, room, sizeof room))
        assert(event.id.size + event.action.size + event.home.size <= sizeof room);
    struct engine_info info;
    if (engine_info_parse(text, &info, NULL) == 0)
        (void)engine_info_whole(&info, room, sizeof room);
    struct engine_volume_seen volume;
    struct engine_volumes volumes;
    if (engine_volume_parse(arena, text, &volume, NULL) == 0) {
        const struct engine_volume_want other = { SLICE("perigee-1"), SLICE("h"), 7 };
        assert(!engine_volume_fits(&other, &volume) || slice_is(volume.device, "/dev/loop7"));
    }
    if (engine_volumes_parse(arena, text, SLICE("h"), &volumes, NULL) == 0)
        for (size_t i = 0; i < volumes.count; i++)
            assert(engine_volume_is_name(volumes.items[i].name));
    struct engine_network_seen network;
    if (engine_network_parse(arena, text, &network, NULL) == 0 &&
        engine_network_fits(&network, SLICE("n"), SLICE("h")))
        assert(network.internal && !network.ipv6);
    struct slice *names;
    size_t name_count;
    if (engine_networks_parse(arena, text, SLICE("h"), &names, &name_count, NULL) == 0)
        for (size_t i = 0; i < name_count; i++)
            assert(engine_volume_is_name(names[i]));
    static const struct engine_volume cache = { { "v", 1 }, { "/cache", 6 }, { "7:0", 3 } };
    static const struct engine_container bounded = { .volumes = &cache, .volume_count = 1 };
    if (engine_walls_mounts(&bounded, text, NULL) == 0)
        assert(size > 20);
    (void)engine_walls_status(text, NULL);
    (void)engine_walls_limits(&want, text, NULL);
    arena_free(arena);
    return 0;
}
