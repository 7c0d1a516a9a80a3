/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h -- the spec's key `scale.schedule`: a list of {cron, tz, for, min}. Inside spec/.
 */
#pragma once

#include <yyjson.h>

#include "spec/endpoint.h"

/* *ret_where is the value that an error is about. */
[[nodiscard]] int spec_schedule_read(struct arena *arena, yyjson_val *value,
                                     struct spec_windows *ret, yyjson_val **ret_where,
                                     struct err *err);
/* null when absent. */
yyjson_mut_val *spec_schedule_value(const struct spec_windows *windows, yyjson_mut_doc *doc);
