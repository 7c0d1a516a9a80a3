/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oip_data.h -- the elements of one JSON tensor, to their place in memory. For oip_*.c only.
 */
#pragma once

#include <stdint.h>

#include "proto/tensor.h"

struct err;
struct oip_input;

/* Reads input->data, flat or nested exactly as input->shape, to `out` (input->bytes). With `out`
 * NULL nothing is written, but everything checked. *ret_bytes is what the elements take. Errors
 * name the input and the element: "input 'x': data[3][12]: ...". */
[[nodiscard]] int oip_data_read(const struct oip_input *input, struct slice name, char *out,
                                uint64_t *ret_bytes, struct err *err);
