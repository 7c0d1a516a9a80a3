/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yaml_scalar.h -- what a YAML scalar is by the 1.2 core schema; for yaml.c and yaml_print.c. Pure.
 */
#pragma once

#include <stdbool.h>

#include <yyjson.h>

#include "base/slice.h"

struct err;

/* Sets *ret_value; strings are borrowed from `text`. `tag` as libyaml resolved it, or empty. */
[[nodiscard]] int yaml_scalar_value(struct slice text, bool plain, struct slice tag,
                                    yyjson_val *ret_value, struct err *err);
