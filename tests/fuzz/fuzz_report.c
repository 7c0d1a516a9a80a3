/* SPDX-License-Identifier: Apache-2.0 */
/* What a PoP says: what is kept of it reads back as the same. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "control/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct report report, again;
    struct err err;
    struct slice text = { (const char *)data, size };
    if (report_parse(arena, text, SLICE("local"), 1, &report, &err) == 0) {
        struct slice kept = report_keep(arena, &report);
        if (report_parse(arena, kept, SLICE("local"), 1, &again, &err) < 0 ||
            !slice_equal(report_keep(arena, &again), kept))
            abort();
    }
    arena_free(arena);
    return 0;
}
