/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h -- which texts may be model names, hosts and origins (names of things: endpoint.h). Pure.
 */
#pragma once

#include "base/slice.h"

struct err;

#define SPEC_MODEL_NAME_BYTES 128

/* An alias, or a name in a path: letters, digits, - _ . / */
[[nodiscard]] int spec_check_model_name(struct slice name, struct err *err);
/* A domain: at least two labels, small letters, no address. */
[[nodiscard]] int spec_check_host(struct slice host, struct err *err);
/* scheme://host[:port], as browsers send it. */
[[nodiscard]] int spec_check_origin(struct slice origin, struct err *err);
/* Two capitals, or a set of countries: 3 to 16 capitals, digits and hyphens. Which there are is not
 * known here. */
[[nodiscard]] int spec_check_countries(struct slice name, struct err *err);
/* The same, or in small letters a PoP's name or a region label. */
[[nodiscard]] int spec_check_region(struct slice name, struct err *err);
