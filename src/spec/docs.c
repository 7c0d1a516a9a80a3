/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/arena.h"
#include "base/auto.h"
#include "spec/endpoint.h"
#include "spec/units.h"

static const char head[] =
    "<!-- Made from src/spec/endpoint_table.c by build/src/spec/docs-gen spec. -->\n"
    "# The spec of an endpoint\n\n"
    "YAML or JSON. A file may hold several documents; `perigee apply -f` "
    "takes a file or a folder.\n"
    "Needed are `name` and one of `model`, `image` and `upstream`. A key that is left out has its "
    "default; "
    "a key that is not known\n"
    "is refused, and so is one that is not acted upon yet.\n\n"
    "Units: sizes are an integer and B, KB, MB, GB (tens) or KiB, MiB, GiB "
    "(Ki, Mi, Gi too); times\n"
    "an integer and us, ms, s, m, h, d; cpu a decimal or thousandths "
    "(`500m`). A bare number where\n"
    "a unit is wanted is an error.\n";

static const char *type_text(enum option_type type)
{
    switch (type) {
    case OPTION_UINT:
        return "integer";
    case OPTION_BOOL:
        return "boolean";
    case OPTION_BYTES:
        return "size";
    case OPTION_TIME:
        return "time";
    case OPTION_CPU:
        return "cores";
    case OPTION_RATE:
        return "rate";
    case OPTION_SHARE:
        return "share";
    case OPTION_TEXT:
        return "text";
    case OPTION_CHOICE:
        return "choice";
    case OPTION_NAME:
    case OPTION_PROJECT:
        return "name";
    case OPTION_NAMES:
        return "list of names";
    case OPTION_HOSTS:
        return "list of hosts";
    case OPTION_ORIGINS:
        return "list of origins";
    case OPTION_REGIONS:
        return "list of places";
    case OPTION_WORDS:
        return "list of text";
    case OPTION_EGRESS:
        return "list";
    case OPTION_LABELS:
        return "map of text";
    case OPTION_ENV:
        return "variables";
    case OPTION_RESIDENCY:
        return "rules";
    case OPTION_SCHEDULE:
        return "windows";
    case OPTION_SPLIT:
        return "shares";
    case OPTION_VOLUMES:
        return "volumes";
    case OPTION_ANY:
        break;
    }
    return "";
}

static void print_range(FILE *out, const struct option *option)
{
    char low[UNITS_BYTES], high[UNITS_BYTES];
    struct slice later;

    switch (option->type) {
    case OPTION_BOOL:
        fprintf(out, "`true`, `false`");
        break;
    case OPTION_EGRESS:
        fprintf(out, "`[]`, `[any]`");
        break;
    case OPTION_UINT:
        fprintf(out, "%llu to %llu", (unsigned long long)option->min,
                (unsigned long long)option->max);
        break;
    case OPTION_BYTES:
    case OPTION_VOLUMES:
        fprintf(out, "%s to %s", units_print_bytes(low, option->min),
                units_print_bytes(high, option->max));
        break;
    case OPTION_TIME:
        fprintf(out, "%s to %s", units_print_time(low, option->min),
                units_print_time(high, option->max));
        break;
    case OPTION_CPU:
        fprintf(out, "%s to %s", units_print_cpu(low, option->min),
                units_print_cpu(high, option->max));
        break;
    case OPTION_RATE:
        fprintf(out, "%s to %s", units_print_rate(low, option->min),
                units_print_rate(high, option->max));
        break;
    case OPTION_SHARE:
        fprintf(out, "%s to %s", units_print_share(low, (uint32_t)option->min),
                units_print_share(high, (uint32_t)option->max));
        break;
    case OPTION_CHOICE:
        later = slice_of(option->choices);
        for (struct slice live = slice_cut(&later, ';'); live.data;) {
            struct slice word = slice_cut(&live, '|');
            fprintf(out, "`%.*s`%s", SLICE_FMT(word), live.data ? ", " : "");
        }
        if (later.data && slice_is(later, "*"))
            fprintf(out, "; others not yet");
        else if (later.data)
            fprintf(out, "; not yet:");
        while (later.data && !slice_is(later, "*")) {
            struct slice word = slice_cut(&later, '|');
            fprintf(out, " `%.*s`", SLICE_FMT(word));
        }
        break;
    case OPTION_TEXT:
    case OPTION_NAME:
    case OPTION_PROJECT:
        fprintf(out, "%llu to %llu characters", (unsigned long long)option->min,
                (unsigned long long)option->max);
        break;
    default:
        fprintf(out, "up to %llu", (unsigned long long)option->max);
        break;
    }
}

static void print_part(FILE *out, enum option_part part, const char *title)
{
    fprintf(out,
            "\n## %s\n\n| key | type | values | default | meaning |\n"
            "| --- | --- | --- | --- | --- |\n",
            title);
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        if (option->status != OPTION_LIVE || option->part != part)
            continue;
        fprintf(out, "| `%s` | %s | ", option->key, type_text(option->type));
        print_range(out, option);
        fprintf(out, " | ");
        if (option->fallback)
            fprintf(out, "`%s`", option->fallback);
        fprintf(out, " | %s |\n", option->help);
    }
}

static void print_later(FILE *out, enum option_status status, const char *title)
{
    fprintf(out, "\n## %s\n\n| key | meaning |\n| --- | --- |\n", title);
    for (size_t i = 0; i < endpoint_option_count; i++)
        if (endpoint_options[i].status == status)
            fprintf(out, "| `%s` | %s |\n", endpoint_options[i].key, endpoint_options[i].help);
}

static const char residency[] =
    "\n## Residency\n\n"
    "```yaml\n"
    "residency:\n"
    "  rules:                            # the first whose clients hold the client's country "
    "counts; "
    "none: 451\n"
    "    - {clients: [EU], process_in: [EU]}\n"
    "    - {clients: [CH], process_in: same-country}\n"
    "    - {clients: any, process_in: any}\n"
    "  unknown_client: refuse            # or a country's code to count it as; asked only where a "
    "rule asks for the client's country\n"
    "```\n\n"
    "`{process_in: [EU]}` is short for one rule of any client. A list names countries (ISO 3166-1) "
    "and sets of them;\n"
    "`any` holds PoPs that do not say where they stand as well, a list never does; `same-country` "
    "is "
    "the client's.\n"
    "`transit` (PoPs that a request may pass on its way), `logs` and `cache` are lists like "
    "`process_in`, and the same as it\n"
    "unless told: in a rule, or beside `rules` for all that do not say their own. "
    "docs/residency.md says how they are acted upon.\n";

static const char schedule[] =
    "\n## Schedule\n\n"
    "```yaml\n"
    "scale:\n"
    "  schedule:\n"
    "    - {cron: \"0 8 * * 1-5\", tz: Europe/Paris, for: 10h, min: 2}\n"
    "```\n\n"
    "Whenever `cron` fires in the zone `tz` (UTC unless told), there are at least `min` replicas "
    "over the fleet for as long as\n"
    "`for` says (1m to 366d, elapsed time). docs/schedules.md says what cron's five fields mean, "
    "and what happens when clocks\n"
    "are changed.\n";

static const char traffic[] =
    "\n## Traffic\n\n"
    "```yaml\n"
    "traffic: {split: [{revision: 3, weight: 90}, {revision: latest, weight: 10}], sticky: "
    "address}\n"
    "```\n\n"
    "A weight is 0 to 1000000, and one at least is above 0; `latest` is the newest revision. "
    "docs/traffic.md says who gets\n"
    "what while a revision is not ready.\n";

static const char volumes[] =
    "\n## Volumes\n\n"
    "```yaml\n"
    "volumes: [{path: /cache, size: 1GiB}]\n"
    "```\n\n"
    "A path is absolute, without a `/` at its end, of letters, digits and `. _ - + @ /`; not `/`, "
    "and not at or below `/tmp`, `/dev`,\n"
    "`/proc`, `/sys` or `/etc`; none within another. docs/containers.md says where they are, and "
    "how long.\n";

struct slice endpoint_spec_docs(struct arena *arena)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        mem_abort(0);
    fputs(head, out);
    print_part(out, OPTION_IDENTITY, "Whose it is");
    print_part(out, OPTION_WHAT_RUNS, "What runs: any change makes a new revision");
    print_part(out, OPTION_GOVERNED, "How it is governed: takes effect at once");
    fputs(volumes, out);
    fputs(residency, out);
    fputs(schedule, out);
    fputs(traffic, out);
    print_later(out, OPTION_NOT_YET, "Not acted upon yet: refused by name");
    print_later(out, OPTION_RESERVED, "Reserved for later: refused by name");
    fclose(out);
    struct slice page = arena_copy(arena, (struct slice){ text, size });
    free(text);
    return page;
}
