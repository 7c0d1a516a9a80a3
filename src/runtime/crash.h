/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash.h -- last words: handlers that write to the status page why the process dies, then let the
 * signal end it, so that the wait status (which alone is believed) says the same.
 */
#pragma once

struct err;
struct perigee_status;

/* `status` must stay mapped and writable. Once a process. */
[[nodiscard]] int crash_watch(struct perigee_status *status, struct err *err);
