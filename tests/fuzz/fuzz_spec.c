/* SPDX-License-Identifier: Apache-2.0 */
/* A spec that is taken prints as YAML and as JSON that are taken back without a change. */
#include <assert.h>

#include "base/arena.h"
#include "spec/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct arena *arena, const struct endpoint_spec *spec, unsigned flags)
{
    struct endpoint_specs again;

    for (int form = SPEC_YAML; form <= SPEC_JSON; form++) {
        struct slice text = form == SPEC_YAML ? endpoint_spec_yaml(arena, spec, 0)
                                              : endpoint_spec_json(arena, spec, SPEC_WITH_DEFAULTS);
        int r = endpoint_spec_parse_text(arena, text, form, flags, &again, NULL);
        assert(r == 0 && again.count == 1);
        struct spec_changes changes = endpoint_spec_diff(arena, spec, &again.items[0]);
        assert(changes.count == 0 && !changes.new_revision);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };

    for (int form = SPEC_YAML; form <= SPEC_JSON; form++) {
        struct arena *arena = arena_new();
        struct endpoint_specs specs;
        if (endpoint_spec_parse_text(arena, text, form, 0, &specs, NULL) == 0)
            for (size_t i = 0; i < specs.count; i++)
                check(arena, &specs.items[i], 0);
        if (endpoint_spec_parse_text(arena, text, form, SPEC_KEEP_UNKNOWN, &specs, NULL) == 0)
            for (size_t i = 0; i < specs.count; i++)
                (void)endpoint_spec_yaml(arena, &specs.items[i], SPEC_WITH_DEFAULTS);
        arena_free(arena);
    }
    return 0;
}
