/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a container image: whatever it says, what is kept of it is within bounds,
 * and an archive of it adds up. */
#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "store/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct image_config config;
    struct image_parts parts;
    struct err err;
    if (image_config_parse(arena, (struct slice){ (const char *)data, size }, &config, &err) == 0) {
        assert(config.layer_count <= IMAGE_LAYERS_MAX && config.port_count <= IMAGE_PORTS_MAX);
        for (size_t i = 0; i < config.entrypoint.count; i++)
            assert(strlen(config.entrypoint.items[i].data) == config.entrypoint.items[i].size);
        (void)image_check(&config, SLICE("amd64"), false, &err);
        uint16_t port;
        assert(image_port(&config, 0, &port, &err) < 0 || port > 0);
        struct image_blob *layers = ARENA_ARRAY(arena, struct image_blob, config.layer_count + 1);
        for (size_t i = 0; i < config.layer_count; i++)
            layers[i] = (struct image_blob){ config.layers[i],
                                             SLICE("application/vnd.oci.image.layer.v1.tar"), i };
        struct image_blob own = {
            SLICE("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"), {}, 2
        };
        uint64_t sum = 0;
        int r = image_archive(arena, &own, &config, layers, config.layer_count, &parts, &err);
        assert(r == 0);
        for (size_t i = 0; i < parts.count; i++)
            sum += parts.items[i].bytes;
        assert(sum == parts.bytes && sum % 512 == 0);
    }
    arena_free(arena);
    return 0;
}
