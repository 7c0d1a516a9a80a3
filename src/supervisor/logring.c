/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/logring.h"

#include <string.h>

void logring_write(struct logring *ring, const char *data, size_t size)
{
    if (size > LOGRING_BYTES) { /* only its end can stay */
        ring->written += size - LOGRING_BYTES;
        data += size - LOGRING_BYTES;
        size = LOGRING_BYTES;
    }
    size_t at = ring->written % LOGRING_BYTES;
    size_t first = size < LOGRING_BYTES - at ? size : LOGRING_BYTES - at;
    memcpy(ring->bytes + at, data, first);
    memcpy(ring->bytes, data + first, size - first);
    ring->written += size;
}

static uint64_t oldest(const struct logring *ring)
{
    return ring->written > LOGRING_BYTES ? ring->written - LOGRING_BYTES : 0;
}

size_t logring_take(struct logring *ring, char *data, size_t room, uint64_t *ret_dropped)
{
    *ret_dropped = 0;
    if (ring->told < oldest(ring)) {
        *ret_dropped = oldest(ring) - ring->told;
        ring->told = oldest(ring);
    }
    size_t size = ring->written - ring->told < room ? (size_t)(ring->written - ring->told) : room;
    size_t at = ring->told % LOGRING_BYTES;
    size_t first = size < LOGRING_BYTES - at ? size : LOGRING_BYTES - at;
    memcpy(data, ring->bytes + at, first);
    memcpy(data + first, ring->bytes, size - first);
    ring->told += size;
    return size;
}

void logring_rewind(struct logring *ring)
{
    ring->told = oldest(ring);
}
