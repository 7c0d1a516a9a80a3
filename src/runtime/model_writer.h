/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_writer.h -- struct perigee_model while a runtime fills it in (runtime.h has the calls).
 */
#pragma once

#include <stddef.h>

struct err;
struct model_writer;
struct perigee_model;

struct model_writer *model_writer_new(void);
void model_writer_free(struct model_writer *writer);

/* Borrowed; checked as a reader will check it. */
[[nodiscard]] int model_writer_finish(struct model_writer *writer,
                                      const struct perigee_model **ret_model, size_t *ret_bytes,
                                      struct err *err);
