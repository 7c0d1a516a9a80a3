/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload.h -- bytes to control, each a blob by its digest: sent when control lacks it, and gone on
 * with where a line broke. Control compares what came with the digest. Inside cli/.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

struct cli;
struct err;

[[nodiscard]] int upload_part(struct cli *cli, int fd, uint64_t offset, uint64_t bytes,
                              const char *digest, struct err *err);
[[nodiscard]] int upload_text(struct cli *cli, struct slice text, const char *digest,
                              struct err *err);
/* `fd`: of that regular file; `path` is for people. */
[[nodiscard]] int upload_file(struct cli *cli, const char *path, int fd, const char **ret_digest,
                              uint64_t *ret_bytes, struct err *err);
/* A folder as a model: its files, and a manifest over them, whose digest it is. */
[[nodiscard]] int upload_folder(struct cli *cli, const char *path, const char **ret_digest,
                                struct err *err);
