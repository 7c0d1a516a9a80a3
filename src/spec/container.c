/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/container.h"

#include <string.h>

#include "base/err.h"
#include "spec/option.h"
#include "spec/reference.h"

#define SECOND UINT64_C(1'000'000'000)
#define EXEC_PERIOD_MIN (5 * SECOND) /* one costs 90 ms: at most 2 % of a core */

/* ---- the image ------------------------------------------------------------------------------- */

bool spec_image_is_path(struct slice image)
{
    return image.size && (image.data[0] == '.' || image.data[0] == '/');
}

static int check_name(struct slice image, struct err *err)
{
    struct reference unused;

    if (spec_image_is_path(image) || spec_is_digest(image))
        return 0;
    if (slice_starts(image, SLICE("sha256:")))
        return err_set(err, ERR_BAD_INPUT,
                       "image: '%s' is no digest: sha256: and 64 small hexadecimal digits",
                       ERR_SLICE(image));
    return reference_parse(image, &unused, err) < 0 ? err_wrap(err, "image") : 0;
}

static bool user_right(struct slice text)
{
    struct slice group = text, user = slice_cut(&group, ':');
    bool right = user.size > 0 && (!group.data || group.size > 0);

    for (size_t i = 0; i < text.size && right; i++) {
        char c = text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        right = letter || memchr("_-.", c, 3) || text.data + i == user.data + user.size;
    }
    return right;
}

static int check_without(const struct endpoint_spec *spec, struct err *err)
{
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option_is_of_image(option) && !option_is_default(option, spec))
            return err_set(err, ERR_BAD_INPUT, "%s: is of an image, and there is none",
                           option->key);
    }
    return 0;
}

bool spec_residency_restricts(const struct endpoint_spec *spec)
{
    for (size_t i = 0; i < spec->residency.count; i++)
        if (spec->residency.rules[i].process_in.kind != SPEC_PLACES_ANY)
            return true;
    return false;
}

int spec_container_check(const struct endpoint_spec *spec, struct err *err)
{
    const struct spec_container *container = &spec->container;
    const char *other = spec->runtime.size ? "runtime" : spec->batch.max ? "batch.max" : NULL;

    if (!spec->image.size)
        return check_without(spec, err);
    int r = check_name(spec->image, err);
    if (r < 0)
        return r;
    if (other)
        return err_set(err, ERR_BAD_INPUT, "%s: is of a model; an image runs what is in it", other);
    if (container->egress.count && spec_residency_restricts(spec))
        return err_set(err, ERR_BAD_INPUT,
                       "egress: [any] lets the image send what it is asked to anywhere, and "
                       "'residency' says where that may be processed; leave one of them out");
    if (container->command.count && !container->command.items[0].size)
        return err_set(err, ERR_BAD_INPUT, "command: the program's name is empty");
    if (container->user.size && !user_right(container->user))
        return err_set(err, ERR_BAD_INPUT, "user: '%s' is not USER or USER:GROUP, names or numbers",
                       ERR_SLICE(container->user));
    return 0;
}

/* ---- probes ---------------------------------------------------------------------------------- */

bool spec_probe_is_there(const struct spec_probe *probe)
{
    return probe->http_path.size || probe->command.count || probe->http_port || probe->tcp_port ||
           probe->period_ns || probe->timeout_ns || probe->failures;
}

struct spec_probe spec_probe_fill(const struct spec_probe *probe)
{
    struct spec_probe filled = *probe;

    filled.period_ns = probe->period_ns ? probe->period_ns : 5 * SECOND;
    filled.timeout_ns = probe->timeout_ns ? probe->timeout_ns : 2 * SECOND;
    filled.failures = probe->failures ? probe->failures : 3;
    return filled;
}

struct spec_probe spec_startup_fill(const struct endpoint_spec *spec)
{
    struct spec_probe probe = spec->probes.startup;

    if (!spec_probe_is_there(&probe))
        return spec_probe_fill(&spec->probes.readiness);
    probe.failures = probe.failures ? probe.failures : 60;
    return spec_probe_fill(&probe);
}

static int check_path(const char *which, struct slice path, struct err *err)
{
    for (size_t i = 0; i < path.size; i++)
        if (path.data[0] != '/' || (unsigned char)path.data[i] <= ' ' ||
            (unsigned char)path.data[i] >= 0x7f || path.data[i] == '#')
            return err_set(err, ERR_BAD_INPUT,
                           "probes.%s.http.path: '%s' must begin with '/' and be written as it "
                           "goes over the wire (%%20 for a space)",
                           which, ERR_SLICE(path));
    return 0;
}

static int check_probe(const char *which, const struct spec_probe *probe, struct err *err)
{
    if ((probe->http_path.size > 0) + (probe->tcp_port > 0) + (probe->command.count > 0) > 1)
        return err_set(err, ERR_BAD_INPUT, "probes.%s: either http or tcp or exec", which);
    if (probe->http_port && !probe->http_path.size)
        return err_set(err, ERR_BAD_INPUT, "probes.%s.http: 'path' is missing", which);
    if (probe->command.count && !probe->command.items[0].size)
        return err_set(err, ERR_BAD_INPUT, "probes.%s.exec.command: the program's name is empty",
                       which);
    if (probe->command.count && probe->period_ns && probe->period_ns < EXEC_PERIOD_MIN)
        return err_set(err, ERR_BAD_INPUT,
                       "probes.%s.period: with exec it is 5s at least, since one costs 90 ms",
                       which);
    return check_path(which, probe->http_path, err);
}

int spec_probes_check(const struct endpoint_spec *spec, struct err *err)
{
    const struct {
        const char *name;
        const struct spec_probe *probe;
    } all[] = {
        { "startup", &spec->probes.startup },
        { "readiness", &spec->probes.readiness },
        { "liveness", &spec->probes.liveness },
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const struct spec_probe *probe = all[i].probe;
        if (!spec_probe_is_there(probe))
            continue;
        if (spec->model.size)
            return err_set(err, ERR_BAD_INPUT,
                           "probes: a model says itself when it is ready; they are for an image "
                           "or an upstream");
        if (spec->upstream.size && (probe->command.count || probe != &spec->probes.readiness))
            return err_set(err, ERR_BAD_INPUT,
                           "probes.%s%s: is of an image; an upstream is asked from outside, and "
                           "not started here",
                           all[i].name, probe == &spec->probes.readiness ? ".exec" : "");
        int r = check_probe(all[i].name, probe, err);
        if (r < 0)
            return r;
    }
    return 0;
}
