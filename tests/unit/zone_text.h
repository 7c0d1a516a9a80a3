/* SPDX-License-Identifier: Apache-2.0 */
/* TZif files made of a few lines, for tests. Any thread. */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct arena;

struct zone_change { /* from `at` on */
    int64_t at;
    int32_t offset_s;
};

/* Before the first change `first_s` holds; `rule` is the footer. At most 200 changes. */
struct slice zone_text(struct arena *arena, int32_t first_s, const struct zone_change *changes,
                       size_t count, const char *rule);
