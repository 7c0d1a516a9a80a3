/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica's region as a hostile replica may write it while requests are with it, read as a loop
 * reads it: rings, tickets, answers against the model.
 *
 * The input: how far its head went, then records of where (16 bits; in the lane, or in a slot), how
 * many bytes (8 bits), and those. Whatever they are, each ticket comes back at most once, and an
 * answer that passes lies inside its slot.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "contract/ring.h"
#include "proto/tensor.h"
#include "replica/replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 4, SLOT_BYTES = 16384, OUTPUTS = 3 };

struct world {
    struct replica replica;
    struct lane_ticket tickets[SLOTS];
    struct tensor_meta outputs[OUTPUTS];
    char *region;
};

static void world_init(struct world *world)
{
    struct lane *lane = &world->replica.lanes[0];

    world->region = mem_zalloc(region_output_bytes(SLOTS, SLOT_BYTES));
    for (uint32_t i = 0; i < OUTPUTS; i++)
        world->outputs[i].type = i == 0 ? TENSOR_BYTES : (enum tensor_type)(TENSOR_FP32 + i - 1);
    world->replica.submission = aligned_alloc(64, (region_submission_bytes() + 63) / 64 * 64);
    memset(world->replica.submission, 0, region_submission_bytes());
    world->replica.output = world->region;
    world->replica.slots = SLOTS;
    world->replica.slot_bytes = SLOT_BYTES;
    world->replica.loops = 1;
    lane->replica = &world->replica;
    lane->out = &world->replica.submission->lanes[0];
    lane->in = (const struct perigee_completion_lane *)(void *)(world->region +
                                                                PERIGEE_COMPLETIONS_OFFSET);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        struct lane_request request = { .ticket = slot + 1,
                                        .bytes = sizeof(struct perigee_request),
                                        .slot = slot };
        assert(lane_submit(lane, &request, &world->tickets[slot]));
    }
}

/* The bit above the place says whether it is in the lane or in the slots. */
static void write_records(struct world *world, const uint8_t *data, size_t size)
{
    while (size >= 3) {
        size_t where = data[0] | (size_t)data[1] << 8, bytes = data[2];
        data += 3;
        size -= 3;
        bytes = bytes < size ? bytes : size;
        char *base = world->region + PERIGEE_SLOTS_OFFSET;
        size_t room = (size_t)SLOTS * SLOT_BYTES;
        if (where & 0x8000) {
            base = world->region + PERIGEE_COMPLETIONS_OFFSET;
            where &= 0x7fff;
            room = sizeof(struct perigee_completion_lane);
        } else {
            where *= 2; /* all of 64 KiB */
        }
        if (where + bytes <= room)
            memcpy(base + where, data, bytes);
        data += bytes;
        size -= bytes;
    }
}

static void check_answer(const struct world *world, uint32_t slot)
{
    struct perigee_answer answer;
    struct err err = {};

    if (lane_answer(&world->replica.lanes[0], slot, world->outputs, OUTPUTS, &answer, &err) < 0) {
        assert(err.message[0]);
        return;
    }
    assert(answer.output_count <= OUTPUTS && answer.message_bytes <= sizeof answer.message);
    for (uint32_t i = 0; i < answer.output_count; i++) {
        const struct perigee_tensor *tensor = &answer.outputs[i];
        assert(tensor->index < OUTPUTS);
        assert(tensor->offset >= PERIGEE_ANSWER_BYTES && tensor->offset <= SLOT_BYTES);
        assert(tensor->bytes <= SLOT_BYTES - tensor->offset);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct perigee_completion completion;
    struct lane_ticket *ticket;
    struct err err = {};
    unsigned back = 0;

    if (size < 2)
        return 0;
    struct world *world = mem_zalloc(sizeof *world);
    world_init(world);
    struct lane *lane = &world->replica.lanes[0];
    write_records(world, data + 2, size - 2);
    atomic_store((_Atomic uint64_t *)(uintptr_t)&lane->in->head,
                 data[0] == 0xff ? UINT64_MAX - data[1] : data[0]);
    while (lane_take(lane, &ticket, &completion, &err) > 0) {
        assert(ticket->slot == completion.slot && ticket->ticket == completion.ticket);
        check_answer(world, ticket->slot);
        back++;
    }
    while (lane_abandon(lane))
        back++;
    assert(back == SLOTS && lane->outstanding == 0);
    free(world->replica.submission);
    free(world->region);
    free(world);
    return 0;
}
