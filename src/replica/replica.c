/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/replica.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "contract/messages.h"
#include "contract/ring.h"
#include "sys/fd.h"
#include "sys/shm.h"

SM_DEFINE(replica_state, REPLICA_STATES)

enum { FD_SUBMISSION, FD_OUTPUT, FD_ARENA, FD_PIPES };

static int added_check(const struct message_replica_added *added, size_t fd_count, struct err *err)
{
    if (added->slots < 2 || added->slots > PERIGEE_SLOTS_MAX || added->concurrency == 0 ||
        added->loops == 0 || added->loops > PERIGEE_LOOPS_MAX)
        return err_set(err, ERR_BAD_INPUT, "replica with %u slots, concurrency %u, %u loops",
                       added->slots, added->concurrency, added->loops);
    if (added->slot_bytes < PERIGEE_ANSWER_BYTES || added->slot_bytes % 64 != 0 ||
        added->slot_bytes > UINT64_C(1) << 40 ||
        added->output_bytes < region_output_bytes(added->slots, added->slot_bytes) ||
        added->submission_bytes < region_submission_bytes())
        return err_set(err, ERR_BAD_INPUT, "replica with regions that are too small");
    if (fd_count != FD_PIPES + added->loops)
        return err_set(err, ERR_BAD_INPUT, "replica with %zu descriptors for %u loops", fd_count,
                       added->loops);
    return 0;
}

int replica_attach(const struct message_replica_added *added, uint64_t instance, int *fds,
                   size_t fd_count, struct replica **ret, struct err *err)
{
    void *submission, *output;
    int r = added_check(added, fd_count, err);

    if (r < 0)
        return r;
    r = shm_map(fds[FD_SUBMISSION], added->submission_bytes, true, &submission, err);
    if (r < 0)
        return err_wrap(err, "submission page");
    r = shm_map(fds[FD_OUTPUT], added->output_bytes, false, &output, err);
    if (r < 0) {
        shm_unmap(submission, added->submission_bytes);
        return err_wrap(err, "output region");
    }
    struct replica *replica = mem_zalloc(sizeof *replica);
    replica->id = added->replica;
    replica->revision = added->revision;
    memcpy(replica->name, added->name, sizeof replica->name);
    replica->state = REPLICA_STARTING;
    atomic_init(&replica->refs, 1);
    place_init(&replica->place, added->concurrency, added->places_max, added->slots / 2);
    replica->submission = submission;
    replica->output = output;
    replica->submission_bytes = added->submission_bytes;
    replica->output_bytes = added->output_bytes;
    replica->slot_bytes = added->slot_bytes;
    replica->lane_set = (uint32_t)(instance & 1);
    replica->slots = added->slots / 2;
    replica->slot_first = replica->lane_set * replica->slots;
    replica->loops = added->loops;
    const struct perigee_completion_lane *in =
        (const void *)(replica->output + PERIGEE_COMPLETIONS_OFFSET);
    for (uint32_t i = 0; i < PERIGEE_LOOPS_MAX; i++) {
        struct lane *lane = &replica->lanes[i];
        lane->replica = replica;
        lane->pipe = -1;
        list_init(&lane->link);
        list_init(&lane->link_active);
        list_init(&lane->link_wake);
        list_init(&lane->flights);
        if (i >= added->loops)
            continue;
        lane->pipe = take_fd(fds[FD_PIPES + i]);
        (void)fcntl(lane->pipe, F_SETFL, O_NONBLOCK); /* this end's description is ours alone */
        lane->out = &replica->submission->lanes[replica->lane_set * added->loops + i];
        lane->in = &in[replica->lane_set * added->loops + i];
    }
    *ret = replica;
    return 0;
}

struct replica *replica_ref(struct replica *replica)
{
    atomic_fetch_add_explicit(&replica->refs, 1, memory_order_relaxed);
    return replica;
}

void replica_unref(struct replica *replica)
{
    if (!replica || atomic_fetch_sub_explicit(&replica->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (uint32_t i = 0; i < PERIGEE_LOOPS_MAX; i++) {
        assert(!replica->lanes[i].watch && replica->lanes[i].outstanding == 0);
        fd_close(&replica->lanes[i].pipe);
    }
    shm_unmap(replica->submission, replica->submission_bytes);
    shm_unmap((void *)(uintptr_t)replica->output, replica->output_bytes);
    free(replica);
}

static bool lanes_quiet(const struct replica *replica, uint32_t set)
{
    const struct perigee_completion_lane *in =
        (const void *)(replica->output + PERIGEE_COMPLETIONS_OFFSET);

    for (uint32_t i = set * replica->loops; i < (set + 1) * replica->loops; i++)
        if (atomic_load(&replica->submission->lanes[i].head) != atomic_load(&in[i].head))
            return false;
    return true;
}

bool replica_quiet(const struct replica *replica)
{
    return lanes_quiet(replica, replica->lane_set);
}

bool replica_quiet_beside(const struct replica *replica)
{
    return lanes_quiet(replica, !replica->lane_set);
}

void replica_beside(const struct replica *replica, uint32_t *ret_has, uint64_t *ret_completed)
{
    const struct perigee_completion_lane *in =
        (const void *)(replica->output + PERIGEE_COMPLETIONS_OFFSET);
    uint64_t has = 0, completed = 0;

    for (uint32_t i = 0; i < replica->loops; i++) {
        uint32_t at = !replica->lane_set * replica->loops + i;
        uint64_t head = atomic_load(&in[at].head);
        uint64_t of_it = atomic_load(&replica->submission->lanes[at].head) - head;
        has += of_it < replica->slots ? of_it : replica->slots;
        completed += head;
    }
    *ret_has = (uint32_t)(has < replica->slots ? has : replica->slots);
    *ret_completed = completed;
}

void replica_lanes_begin(struct replica *replica)
{
    for (uint32_t i = 0; i < replica->loops; i++) {
        struct lane *lane = &replica->lanes[i];
        /* Ours to believe: the replica cannot write there. */
        lane->published = lane->seen = lane->began = atomic_load(&lane->out->head);
        atomic_store(&lane->out->taken, lane->seen);
        atomic_store(&lane->out->armed, 0);
    }
}

enum perigee_phase replica_phase(const struct replica *replica)
{
    uint32_t phase = atomic_load_explicit(&replica_status(replica)->phase, memory_order_acquire);

    return phase <= PERIGEE_PHASE_FAILED ? (enum perigee_phase)phase : PERIGEE_PHASE_FAILED;
}
