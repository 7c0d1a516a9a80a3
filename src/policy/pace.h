/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace.h -- does a transfer come forward as fast as it must? The rule that clients' bodies have
 * (base/rate.h; body_ms, body_rate_min of docs/limits.md): in each span so many bytes. Pure; each
 * struct pace is one thread's.
 */
#pragma once

#include <stdint.h>

enum {
    PACE_SPAN_MS = 30'000,
    PACE_RATE_MIN = 512,    /* bytes a second, over a span: what brings less is ended */
    PACE_RATE_SLOW = 65'536 /* likewise: what brings less gives way to others (upload_rate_min) */
};

struct pace {
    int64_t from_ms; /* the span's begin */
    uint64_t from_bytes;
};

enum pace_is { PACE_WELL, PACE_SLOW, PACE_STALLED };

/* A span of `bytes` and more begins. */
void pace_begin(struct pace *pace, int64_t now_ms, uint64_t bytes);
/* `bytes`: of all that came so far; it never shrinks. Whatever it is, is said once a span: within
 * one all is well. */
enum pace_is pace_look(struct pace *pace, int64_t now_ms, uint64_t bytes);
