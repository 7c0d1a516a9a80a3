/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select.h -- label selectors: "team=vision,stage!=test,gpu". Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct arena;
struct err;
struct spec_pairs;

enum { SELECTOR_TERMS_MAX = 16 };

struct selector {
    struct {
        struct slice key, value;
        enum { SELECT_EQUAL, SELECT_DIFFERS, SELECT_THERE } kind;
    } terms[SELECTOR_TERMS_MAX];
    size_t count;
};

/* Empty text selects everything. */
[[nodiscard]] int selector_parse(struct arena *arena, struct slice text, struct selector *ret,
                                 struct err *err);
bool selector_matches(const struct selector *selector, const struct spec_pairs *labels);
