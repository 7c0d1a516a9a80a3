/* SPDX-License-Identifier: Apache-2.0 */
/*
 * range.h -- which bytes a request is about: Range (RFC 9110 14.1.2, one range), Content-Range of
 * an upload's part (RFC 9110 14.4; OCI distribution-spec 1.1 has it without unit and size). Pure.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct err;

struct range {
    uint64_t first, last; /* both belong to it */
};

enum range_answer {
    RANGE_WHOLE,   /* there is none, or one that is not understood: all of it */
    RANGE_PART,    /* *ret says which */
    RANGE_OUTSIDE, /* 416 */
};

/* "bytes=5-", "bytes=5-9", "bytes=-4" of something with `size` bytes. One that ends before it
 * begins is outside. */
enum range_answer range_of(struct slice header, uint64_t size, struct range *ret);
/* "5-9". ERR_BAD_INPUT says the form. */
[[nodiscard]] int range_of_chunk(struct slice header, struct range *ret, struct err *err);
