/* SPDX-License-Identifier: Apache-2.0 */
#include "control/select.h"

#include "base/arena.h"
#include "base/err.h"
#include "spec/endpoint.h"

int selector_parse(struct arena *arena, struct slice text, struct selector *ret, struct err *err)
{
    struct slice rest = arena_copy(arena, text);
    struct selector selector = {};
    while (text.size && rest.data) {
        struct slice term = slice_trim(slice_cut(&rest, ','));
        if (selector.count == SELECTOR_TERMS_MAX)
            return err_set(err, ERR_BAD_INPUT, "labels: at most %d terms", (int)SELECTOR_TERMS_MAX);
        typeof(&selector.terms[0]) t = &selector.terms[selector.count++];
        struct slice value = term;
        t->key = slice_cut(&value, '=');
        t->kind = value.data ? SELECT_EQUAL : SELECT_THERE;
        if (slice_ends(t->key, SLICE("!")) && value.data) {
            t->kind = SELECT_DIFFERS;
            t->key.size--;
        }
        t->key = slice_trim(t->key);
        t->value = value.data ? slice_trim(value) : (struct slice){};
        if (t->key.size == 0)
            return err_set(err, ERR_BAD_INPUT, "labels: '%s' has no key; write key=value",
                           ERR_SLICE(term));
    }
    *ret = selector;
    return 0;
}

bool selector_matches(const struct selector *selector, const struct spec_pairs *labels)
{
    for (size_t i = 0; i < selector->count; i++) {
        const struct slice *value = NULL;
        for (size_t k = 0; k < labels->count && !value; k++)
            if (slice_equal(labels->items[k].key, selector->terms[i].key))
                value = &labels->items[k].value;
        bool equal = value && slice_equal(*value, selector->terms[i].value);
        bool holds = selector->terms[i].kind == SELECT_EQUAL     ? equal
                     : selector->terms[i].kind == SELECT_DIFFERS ? !equal
                                                                 : value != NULL;
        if (!holds)
            return false;
    }
    return true;
}
