/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alarm.h -- one shot at a moment of loop_now_ns(), in nanoseconds: where a timer's millisecond is
 * too coarse. A descriptor each, so one for many deadlines (env_timers). Loop thread only.
 */
#pragma once

#include <stdint.h>

struct loop;
struct alarm;

/* Aborts where there is no descriptor left. */
struct alarm *alarm_new(struct loop *loop, void (*on_due)(void *data), void *data);
void alarm_free(struct alarm *alarm); /* NULL is allowed; on_due is not called any more */

void alarm_set(struct alarm *alarm, int64_t due_ns); /* again: moves it. INT64_MAX: never */
