/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One trace as a picture and as numbers, for check_svg.py: scale_shown TRACE TITLE FILE.svg
 *
 * Says {"arrivals": [...], "one": [...], "two": [...]}: a number for each second.
 */
#include <stdio.h>
#include <string.h>

#include "sim/scale_compare.h"
#include "sim/scale_picture.h"

enum { SEED = 1 };

static int trace_of(const char *name, struct scale_trace *ret)
{
    for (int kind = 0; kind < SCALE_TRACES; kind++) {
        scale_trace_make(ret, (enum scale_trace_kind)kind, SEED);
        if (strcmp(ret->name, name) == 0)
            return 0;
        scale_trace_free(ret);
    }
    return -1;
}

static void numbers(const char *name, const struct scale_result *result, bool arrivals)
{
    printf("\"%s\": [", name);
    for (size_t i = 0; i < result->series_count; i++)
        printf("%s%.0f", i ? "," : "",
               (double)(arrivals ? result->series[i].arrivals : result->series[i].replicas));
    printf("]");
}

int main(int argc, char **argv)
{
    static struct scale_both both;
    struct scale_trace trace;
    struct scale_row row;

    if (argc != 4 || trace_of(argv[1], &trace) < 0)
        return 2;
    scale_compare(&trace, &row, &both);
    scale_trace_free(&trace);
    const struct scale_line lines[] = { { "one's <way> & \"more\"", "#c8443c", &both.kpa },
                                        { "two", "#1a7f5a", &both.ours } };
    FILE *out = fopen(argv[3], "we");
    if (!out)
        return 1;
    scale_svg(out, argv[2], lines, 2);
    if (fclose(out))
        return 1;
    printf("{");
    numbers("arrivals", &both.kpa, true);
    printf(", ");
    numbers("one", &both.kpa, false);
    printf(", ");
    numbers("two", &both.ours, false);
    printf("}\n");
    return 0;
}
