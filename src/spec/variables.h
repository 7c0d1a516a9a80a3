/* SPDX-License-Identifier: Apache-2.0 */
/*
 * variables.h -- the spec's key `env`: a map from names of variables to strings, or to
 * {secret: NAME}. Inside spec/.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

/* `option` has how many there may be. *ret_where is the value that an error is about. Values may be
 * secret: no message says one. */
[[nodiscard]] int spec_variables_read(const struct option *option, struct arena *arena,
                                      yyjson_val *value, struct spec_variables *ret,
                                      yyjson_val **ret_where, struct err *err);
/* An empty map when there is none. */
yyjson_mut_val *spec_variables_value(const struct spec_variables *variables, yyjson_mut_doc *doc);
