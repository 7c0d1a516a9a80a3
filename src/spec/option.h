/* SPDX-License-Identifier: Apache-2.0 */
/*
 * option.h -- one row of the table at work: read a value, put its default, print it. Inside spec/.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

/* Reads `value` into the member of `spec`; errors begin with the key. *ret_where is the value an
 * error is about (an element, say). */
[[nodiscard]] int option_read(const struct option *option, struct arena *arena, yyjson_val *value,
                              struct endpoint_spec *spec, yyjson_val **ret_where, struct err *err);

/* Range and form of what stands in `spec`; for numbers and texts that did not come by reading. */
[[nodiscard]] int option_check(const struct option *option, const struct endpoint_spec *spec,
                               struct err *err);

void option_default(const struct option *option, struct endpoint_spec *spec);
bool option_is_default(const struct option *option, const struct endpoint_spec *spec);
bool option_is_absent(const struct option *option, const struct endpoint_spec *spec);

/* Of how an image runs: said of nothing else. */
bool option_is_of_image(const struct option *option);

/* A new value in `doc` that says what stands in `spec`; shortest exact form. */
yyjson_mut_val *option_value(const struct option *option, const struct endpoint_spec *spec,
                             yyjson_mut_doc *doc);
