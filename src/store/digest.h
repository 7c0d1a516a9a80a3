/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h -- SHA-256 as "sha256:HEX": the name of a blob. Any thread; one at a time per object.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct err;

enum {
    DIGEST_HEX = 64,
    DIGEST_TEXT = 7 + DIGEST_HEX + 1, /* "sha256:", the digits, the end */
};

struct digest;

struct digest *digest_new(void);
void digest_free(struct digest *digest); /* NULL is allowed */
void digest_add(struct digest *digest, const void *data, size_t bytes);
/* Ends it; only digest_free() may follow. */
const char *digest_end(struct digest *digest, char ret_text[static DIGEST_TEXT]);

/* All at once. Returns ret_text. */
const char *digest_of(struct slice bytes, char ret_text[static DIGEST_TEXT]);

/* "sha256:" and 64 small hexadecimal digits; anything else is ERR_BAD_INPUT. */
[[nodiscard]] int digest_check(struct slice text, struct err *err);
