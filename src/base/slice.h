/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.h -- borrowed bytes: a pointer and a size, not terminated. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *data;
    size_t size;
};

#define SLICE(literal) ((struct slice){ "" literal, sizeof(literal) - 1 })
#define SLICE_FMT(s) (int)(s).size, (s).data /* for "%.*s" */

static inline struct slice slice_of(const char *string)
{
    return (struct slice){ string, string ? strlen(string) : 0 };
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_is(struct slice a, const char *string)
{
    return slice_equal(a, slice_of(string));
}

int slice_order(struct slice a, struct slice b);         /* by bytes; as memcmp() says it */
bool slice_equal_nocase(struct slice a, struct slice b); /* ASCII */
bool slice_starts(struct slice a, struct slice prefix);
bool slice_ends(struct slice a, struct slice suffix);
struct slice slice_trim(struct slice a); /* spaces and tabs at both ends */

/* Cuts `*rest` at the first `separator`: returns what stood before it and moves *rest behind it.
 * Without a separator returns all, and *rest becomes empty with data NULL. */
struct slice slice_cut(struct slice *rest, char separator);

/* Whole slice as a decimal number without sign or spaces; false when it is none or overflows. */
bool slice_u64(struct slice a, uint64_t *ret);

/* How many bytes, from the first on, are printable ASCII other than a quote and a backslash: what
 * JSON and a header line hold as it is. */
size_t slice_plain(struct slice a);

/* Bytes of the valid UTF-8 sequence that `a` begins with (RFC 3629); 0 when there is none. */
size_t utf8_length(struct slice a);
size_t utf8_write(char out[static 4], uint32_t code); /* its bytes */
bool utf8_valid(struct slice a);
