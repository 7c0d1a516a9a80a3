/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soon.h -- timers of one length are due in 1 ms, so that nobody waits for what is tried again
 * later. For tests that link soon.c; the linker has our code call it (meson.build). Any thread.
 */
#pragma once

#include <stdint.h>

void soon_begin(int64_t ms);     /* of that length; the count is 0 again */
unsigned soon_count(void);       /* so many were started */
void soon_await(unsigned count); /* until there were so many; fails after 10 s */
