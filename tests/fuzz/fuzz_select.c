/* SPDX-License-Identifier: Apache-2.0 */
/* Label selectors as a query has them: what is taken has at most so many terms, each with a key;
 * who has no label at all has none that is wanted, and differs in all. */
#include <stdint.h>
#include <stdlib.h>

#include "base/arena.h"
#include "control/select.h"
#include "spec/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };
    struct selector selector;
    struct arena *arena = arena_new();
    if (selector_parse(arena, text, &selector, NULL) == 0) {
        if (selector.count > SELECTOR_TERMS_MAX)
            abort();
        struct spec_pairs none = {};
        bool wanted = false;
        for (size_t i = 0; i < selector.count; i++) {
            if (selector.terms[i].key.size == 0)
                abort();
            wanted = wanted || selector.terms[i].kind != SELECT_DIFFERS;
        }
        if (selector_matches(&selector, &none) == wanted)
            abort();
    }
    arena_free(arena);
    return 0;
}
