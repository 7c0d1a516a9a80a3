/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "replica/engine/life.h"

enum { SIGNALED = 128, MEMORY_SLACK = 256 * 1024 };

bool engine_end_was_memory(const struct engine_end_seen *seen)
{
    if (seen->engine_says || seen->kills > 0)
        return true;
    bool killed = seen->exit_code == SIGNALED + SIGKILL && !seen->asked;
    return killed && seen->memory_bytes_limit > 0 &&
           seen->memory_bytes_max + MEMORY_SLACK >= seen->memory_bytes_limit;
}

void engine_end_text(const struct engine_end_seen *seen, char *text, size_t room)
{
    const char *name = seen->exit_code > SIGNALED && seen->exit_code < SIGNALED + 65
                           ? sigabbrev_np(seen->exit_code - SIGNALED)
                           : NULL;

    if (engine_end_was_memory(seen))
        (void)snprintf(text, room, "it ran out of memory (flavor.memory is %llu MiB)",
                       (unsigned long long)seen->memory_bytes_limit >> 20);
    else if (seen->asked)
        (void)snprintf(text, room, "it was stopped");
    else if (seen->exit_code < 0)
        (void)snprintf(text, room, "it ended, and the engine does not say how");
    else if (name)
        (void)snprintf(text, room, "it ended by itself: killed by SIG%s", name);
    else
        (void)snprintf(text, room, "it ended by itself with status %d", seen->exit_code);
}
