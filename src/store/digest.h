/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest.h -- SHA-256 as "sha256:HEX": the name of a blob; SHA-512 likewise, for what a registry
 * takes (OCI image-spec 1.1, descriptors). Any thread; one at a time per object.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct arena;
struct err;

enum {
    DIGEST_HEX = 64,
    DIGEST_TEXT = 7 + DIGEST_HEX + 1, /* "sha256:", the digits, the end */
    DIGEST_HEX_MAX = 128,
    DIGEST_TEXT_MAX = 7 + DIGEST_HEX_MAX + 1, /* of either */
};

enum digest_kind { DIGEST_SHA256, DIGEST_SHA512, DIGEST_KINDS };
extern const char *const digest_kind_names[DIGEST_KINDS]; /* "sha256" */

struct digest;

struct digest *digest_new(void); /* SHA-256 */
struct digest *digest_new_of(enum digest_kind kind);
void digest_free(struct digest *digest); /* NULL is allowed */
enum digest_kind digest_kind_of(const struct digest *digest);
void digest_add(struct digest *digest, const void *data, size_t bytes);
/* Ends it; only digest_free() may follow. */
const char *digest_end(struct digest *digest, char ret_text[static DIGEST_TEXT]);
const char *digest_end_of(struct digest *digest, char ret_text[static DIGEST_TEXT_MAX]);

/* All at once. Returns ret_text. */
const char *digest_of(struct slice bytes, char ret_text[static DIGEST_TEXT]);
/* The same in the arena; of nothing it is {}. */
struct slice digest_slice(struct arena *arena, struct slice bytes);

/* "sha256:" and 64 small hexadecimal digits; anything else is ERR_BAD_INPUT. */
[[nodiscard]] int digest_check(struct slice text, struct err *err);
/* Either kind. "sha256:..." and "sha512:..." alone; ERR_BAD_INPUT as above. */
[[nodiscard]] int digest_check_any(struct slice text, enum digest_kind *ret_kind, struct err *err);
