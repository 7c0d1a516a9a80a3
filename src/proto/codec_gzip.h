/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_gzip.h -- gzip and deflate of bodies, bounded after inflation.
 *
 * An inflater or deflater belongs to one exchange and one thread. "deflate" is read with and
 * without zlib's header, since both are sent in the wild, and written with it (RFC 9110, 8.4.1.2).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;
struct inflater;
struct deflater;
struct text;

enum codec { CODEC_IDENTITY, CODEC_GZIP, CODEC_DEFLATE };

const char *codec_name(enum codec codec); /* the value of Content-Encoding; "identity" */

/* Content-Encoding's value. Several encodings, or another: ERR_BAD_INPUT with HTTP 415. */
[[nodiscard]] int codec_parse(struct slice value, enum codec *ret, struct err *err);

/* What an Accept-Encoding prefers of the three, gzip first among equals; identity when it is
 * empty or prefers nothing we have. */
enum codec codec_accepted(struct slice accept_encoding);

/* More than `bytes_max` bytes after inflation are ERR_TOO_LARGE. */
struct inflater *inflater_new(enum codec codec, uint64_t bytes_max);
void inflater_free(struct inflater *inflater); /* NULL is allowed */

/* Takes from *in what it can (and moves it), writes at most `room` bytes to `out` and returns how
 * many. 0 with *in empty: more input is needed. Output may be left though *in is empty: call until
 * it returns less than `room`. */
[[nodiscard]] int64_t inflater_run(struct inflater *inflater, struct slice *in, void *out,
                                   size_t room, struct err *err);

/* The input has ended: was the compressed stream whole? */
[[nodiscard]] int inflater_finish(const struct inflater *inflater, struct err *err);

struct deflater *deflater_new(enum codec codec, int level); /* level 1 to 9 */
void deflater_free(struct deflater *deflater);
void deflater_push(struct deflater *deflater, struct slice in, struct text *out);
void deflater_finish(struct deflater *deflater, struct text *out);
