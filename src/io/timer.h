/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer.h -- one shot, in milliseconds of the loop's monotonic clock.
 *
 * Heap object with one owner; timer_free() before the loop is freed. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct timer;

/* The timer stands still until timer_start(). */
struct timer *timer_new(struct loop *loop, void (*on_expired)(void *data), void *data);
void timer_free(struct timer *timer); /* NULL is allowed; on_expired is not called any more */

void timer_start(struct timer *timer, int64_t ms); /* again: starts anew */
void timer_stop(struct timer *timer);
bool timer_running(const struct timer *timer);
