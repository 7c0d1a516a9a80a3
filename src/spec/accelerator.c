/* SPDX-License-Identifier: Apache-2.0 */
/* The spec's key `flavor.accelerator`: "nvidia", "nvidia-l40s:2". */
#include "base/err.h"
#include "spec/endpoint.h"
#include "spec/names.h"

static int kind_check(struct slice kind, struct err *err)
{
    int r = spec_check_name(kind, "accelerator", err);

    if (r < 0)
        return r;
    if (slice_is(kind, "nvidia") || slice_starts(kind, SLICE("nvidia-")))
        return 0;
    return err_set(err, ERR_NOT_SUPPORTED,
                   "'%s' is not acted upon yet; it can be none, nvidia or nvidia-MODEL, and how "
                   "many (nvidia-l40s:2)",
                   ERR_SLICE(kind));
}

int spec_accelerator_parse(struct slice text, struct spec_accelerator *ret, struct err *err)
{
    struct slice rest = text;
    struct spec_accelerator accelerator = { .kind = slice_cut(&rest, ':'), .count = 1 };

    if (slice_is(text, "none")) {
        *ret = (struct spec_accelerator){};
        return 0;
    }
    int r = kind_check(accelerator.kind, err);
    if (r < 0)
        return r;
    if (rest.data && (!slice_u64(rest, &accelerator.count) || accelerator.count < 1 ||
                      accelerator.count > SPEC_ACCELERATORS_MAX))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no number from 1 to %d", ERR_SLICE(rest),
                       (int)SPEC_ACCELERATORS_MAX);
    *ret = accelerator;
    return 0;
}

uint32_t spec_accelerators(const struct endpoint_spec *spec)
{
    struct spec_accelerator accelerator;
    struct err ignored;

    if (spec_accelerator_parse(spec->flavor.accelerator, &accelerator, &ignored) < 0)
        return 0;
    return (uint32_t)accelerator.count;
}

/* "nvidia" is any of nvidia's, as a region label is any below it. */
static bool is_of(struct slice flavor, struct slice kind)
{
    return slice_starts(flavor, kind) &&
           (flavor.size == kind.size || flavor.data[kind.size] == '-');
}

bool spec_accelerator_stands(const struct endpoint_spec *spec, const struct spec_strings *flavors)
{
    struct spec_accelerator accelerator;
    struct err ignored;

    if (spec_accelerator_parse(spec->flavor.accelerator, &accelerator, &ignored) < 0)
        return false;
    for (size_t i = 0; i < flavors->count && accelerator.count; i++)
        if (is_of(flavors->items[i], accelerator.kind))
            return true;
    return accelerator.count == 0;
}

int spec_accelerator_check(const struct endpoint_spec *spec, struct err *err)
{
    struct spec_accelerator accelerator;
    int r = spec_accelerator_parse(spec->flavor.accelerator, &accelerator, err);

    if (r < 0)
        return err_wrap(err, "flavor.accelerator");
    if (accelerator.count && !spec->image.size)
        return err_set(err, ERR_NOT_SUPPORTED,
                       "flavor.accelerator: '%s' is not acted upon yet but for an image",
                       ERR_SLICE(spec->flavor.accelerator));
    return 0;
}
