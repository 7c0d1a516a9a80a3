/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grace.h -- may what is old by the wall clock be thrown away? Not right after that clock jumped:
 * what was uploaded a moment ago then looks hours old. Pure but for its state; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct grace { /* zeroed before first use */
    bool known;
    int64_t offset_ns; /* wall clock less monotonic, as last seen */
    int64_t until_ns;  /* monotonic: until then nothing goes */
};

/* Looks at both clocks; false for `hold_ns` after they went apart by more than a minute.
 * *ret_jump_ns is how far the wall clock jumped, 0 when it did not. */
bool grace_over(struct grace *grace, int64_t now_ns, int64_t wall_ns, int64_t hold_ns,
                int64_t *ret_jump_ns);
