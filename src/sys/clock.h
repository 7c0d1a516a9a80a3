/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h -- clocks for those who have no struct env: the worker executables. Any thread.
 */
#pragma once

#include <stdint.h>

uint64_t clock_monotonic_ns(void);
uint64_t clock_thread_cpu_ns(void);  /* of the calling thread */
uint64_t clock_process_cpu_ns(void); /* of all threads */
