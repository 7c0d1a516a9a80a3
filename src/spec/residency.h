/* SPDX-License-Identifier: Apache-2.0 */
/*
 * residency.h -- the spec's key `residency`: rules, or the short form of one rule. Inside spec/.
 *
 * Both forms are read into rules; what is printed is the shortest that says the same.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

enum { SPEC_RESIDENCY_RULES_MAX = 64, SPEC_PLACES_MAX = 300 };

/* *ret_where is the value that an error is about. */
[[nodiscard]] int spec_residency_read(struct arena *arena, yyjson_val *value,
                                      struct spec_residency *ret, yyjson_val **ret_where,
                                      struct err *err);
/* null when absent. */
yyjson_mut_val *spec_residency_value(const struct spec_residency *residency, yyjson_mut_doc *doc);
