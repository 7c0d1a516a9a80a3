/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/command.h"

#include <string.h>

#include "contract/ring.h"

#define THREADS_MAX 1024u

/* What version 1 does not have is 0. */
static bool is_spoken(const struct perigee_clone *clone, size_t size)
{
    return clone->magic == PERIGEE_WORKER_MAGIC && clone->message == PERIGEE_CLONE &&
           ((clone->version == 1 && size == PERIGEE_CLONE_BYTES_1) ||
            (clone->version == PERIGEE_WORKER_VERSION && size == sizeof *clone));
}

static bool is_group(uint32_t kind, uint32_t count)
{
    return kind == PERIGEE_GROUP_NONE     ? count == 0
           : kind == PERIGEE_GROUP_TASKS  ? count > 0 && count <= PERIGEE_GROUPS_MAX
           : kind == PERIGEE_GROUP_FOLDER ? count == 1
                                          : false;
}

const char *command_fault(const struct perigee_clone *clone, size_t size, size_t fd_count)
{
    const char *file = clone->model_file;

    if (!is_spoken(clone, size))
        return "it is none of this version";
    if (!is_group(clone->group, clone->groups))
        return "its control group";
    if (clone->loops == 0 || clone->loops > PERIGEE_LOOPS_MAX || clone->lanes != 2 * clone->loops)
        return "loops and lanes";
    if (fd_count != PERIGEE_FD_PIPES + clone->lanes + clone->groups)
        return "the number of descriptors";
    if (clone->slots == 0 || clone->slots > PERIGEE_SLOTS_MAX || clone->slot_bytes % 4096 != 0 ||
        clone->slot_bytes < PERIGEE_ANSWER_BYTES || clone->slot_bytes > UINT64_C(1) << 40)
        return "slots";
    if (clone->submission_bytes != region_submission_bytes() ||
        clone->output_bytes != region_output_bytes(clone->slots, clone->slot_bytes) ||
        clone->arena_bytes == 0)
        return "the sizes of regions";
    if (clone->threads == 0 || clone->threads > THREADS_MAX || clone->batch_max == 0 ||
        clone->sandbox > PERIGEE_SANDBOX_REQUIRE || clone->memory_bytes_max == 0)
        return "threads, batch, sandbox or memory";
    if (!memchr(file, 0, sizeof clone->model_file) || file[0] == 0 || file[0] == '/' ||
        strcmp(file, "..") == 0 || strncmp(file, "../", 3) == 0 || strstr(file, "/../"))
        return "the model's file";
    return NULL;
}
