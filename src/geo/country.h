/* SPDX-License-Identifier: Apache-2.0 */
/*
 * country.h -- countries by their codes: ISO 3166-1 alpha-2, two capitals. Pure, any thread.
 *
 * Officially assigned codes alone: what laws, prices and residency name must mean one country.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

struct err;

bool country_known(struct slice code);

/* ERR_BAD_INPUT with what to write instead where that is known: "'UK' is no country's code; the
 * United Kingdom's is GB". */
[[nodiscard]] int country_check(struct slice code, struct err *err);
