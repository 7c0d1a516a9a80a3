/* SPDX-License-Identifier: Apache-2.0 */
/*
 * split.h -- the spec's key `traffic.split`: a list of {revision, weight}. Inside spec/.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

/* *ret_where is the value that an error is about. */
[[nodiscard]] int spec_split_read(struct arena *arena, yyjson_val *value, struct spec_split *ret,
                                  yyjson_val **ret_where, struct err *err);
/* null when absent. */
yyjson_mut_val *spec_split_value(const struct spec_split *split, yyjson_mut_doc *doc);
