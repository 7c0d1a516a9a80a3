/* SPDX-License-Identifier: Apache-2.0 */
/* The state that a supervisor leaves to the next program: what is taken stays within its bytes. */
#include "supervisor/handover.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(int fd, void *data)
{
    assert(fd >= 3);
    ++*(size_t *)data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *memory = mem_alloc(size + 1); /* aligned, as a mapping is */
    struct handover in;
    struct err err = {};
    size_t fds = 0, logs = 0;
    memcpy(memory, data, size);
    int r = handover_read(memory, size, &in, &err);
    if (r == 0) {
        handover_each_fd(&in, count, &fds);
        assert(fds >= 4);
        for (uint32_t i = 0; i < in.head->process_count; i++)
            assert(strlen(in.processes[i].name) < sizeof in.processes[i].name);
        for (uint32_t i = 0; i < in.head->replica_count + in.head->dead_count; i++)
            logs += in.replicas[i].log_bytes;
        assert(in.logs + logs == memory + size);
    } else {
        assert((r == ERR_BAD_INPUT || r == ERR_PRECONDITION) && err.message[0]);
    }
    free(memory);
    return 0;
}
