/* SPDX-License-Identifier: Apache-2.0 */
/* The page on which a replica left its last words, as the supervisor and then the agent make a
 * sentence of it: the wait status in four bytes, then the page. */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/state.h"
#include "supervisor/core_private.h"
#include "sys/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct core_replica replica;
    static const struct rusage usage;
    char words[2048];
    int wait_status;
    struct err err = {};

    if (size < sizeof wait_status)
        return 0;
    memcpy(&wait_status, data, sizeof wait_status);
    data += sizeof wait_status;
    size -= sizeof wait_status;
    log_level_set(LOG_ERROR + 1);
    replica = (struct core_replica){ .output_fd = memfd_create("page", MFD_CLOEXEC) };
    if (write(replica.output_fd, data, size) != (ssize_t)size ||
        ftruncate(replica.output_fd, 4096) < 0)
        abort();
    replica_describe_end(&replica, wait_status & 0xffff, &usage);
    fd_close(&replica.output_fd);
    union message message = { .as_MESSAGE_REPLICA_EXITED = replica.exited };
    assert(message_check(&message, sizeof replica.exited, 0, &err) == 0);
    (void)pop_exit_words(&replica.exited, words, sizeof words);
    assert(memchr(words, 0, sizeof words));
    return 0;
}
