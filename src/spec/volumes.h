/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volumes.h -- the spec's key `volumes`: a list of {path, size}. Inside spec/.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

/* `option` has the bounds of a size. *ret_where is the value that an error is about. */
[[nodiscard]] int spec_volumes_read(const struct option *option, struct arena *arena,
                                    yyjson_val *value, struct spec_volumes *ret,
                                    yyjson_val **ret_where, struct err *err);
/* An empty list when there is none. */
yyjson_mut_val *spec_volumes_value(const struct spec_volumes *volumes, yyjson_mut_doc *doc);
