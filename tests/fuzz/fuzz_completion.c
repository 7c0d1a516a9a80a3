/* SPDX-License-Identifier: Apache-2.0 */
/* A completion lane and an answer as a hostile replica may write them: whatever the bytes, no index
 * leaves the ring and no tensor that passes leaves the slot. */
#include "contract/ring.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct steps {
    uint64_t head, seen, published, room;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct steps steps = {};
    struct perigee_tensor tensor;
    struct perigee_completion completion;
    struct err err = {};

    if (size < sizeof steps)
        return 0;
    memcpy(&steps, data, sizeof steps);
    data += sizeof steps;
    size -= sizeof steps;

    struct perigee_completion_lane *lane = aligned_alloc(64, sizeof *lane);
    memset(lane, 0x5a, sizeof *lane);
    if (size > 0)
        memcpy(lane->entries, data, size < sizeof lane->entries ? size : sizeof lane->entries);
    atomic_store(&lane->head, steps.head);
    for (unsigned i = 0; i < 2 * PERIGEE_RING_ENTRIES; i++) {
        uint64_t before = steps.seen;
        int r = completion_take(lane, &steps.seen, steps.published, &completion, &err);
        assert(steps.seen == before + (r == 1));
        assert(steps.seen <= steps.published || r != 1);
        if (r <= 0)
            break;
    }
    free(lane);

    for (; size >= sizeof tensor; data += sizeof tensor, size -= sizeof tensor) {
        memcpy(&tensor, data, sizeof tensor);
        uint64_t room = steps.room % (1u << 20);
        if (tensor_check(&tensor, room, &err) < 0)
            continue;
        assert(tensor.offset + tensor.bytes <= room && tensor.offset <= room);
        uint64_t elements;
        assert(dims_elements(tensor.dims, tensor.rank, &elements));
        assert(elements * datatype_bytes(tensor.datatype) <= room);
    }
    return 0;
}
