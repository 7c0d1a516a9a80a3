/* SPDX-License-Identifier: Apache-2.0 */
/* Whole numbers alone, so that no locale's point gets in. */
#include "sim/scale_picture.h"

#include <math.h>

#include "sim/svg.h"

enum { LEFT = 60, WIDE = 840, TOP = 40, HIGH = 150, GAP = 50, COLUMNS = 840 };

enum figure { ARRIVALS, REPLICAS };

static float figure_at(const struct scale_result *result, enum figure figure, size_t i)
{
    return figure == ARRIVALS ? result->series[i].arrivals : result->series[i].replicas;
}

/* The most of the seconds that fall on one column: a short peak is seen. */
static float column(const struct scale_result *result, enum figure figure, size_t seconds, int x)
{
    size_t from = (size_t)x * seconds / COLUMNS, to = ((size_t)x + 1) * seconds / COLUMNS;
    float most = 0;

    for (size_t i = from; i < (to > from ? to : from + 1) && i < result->series_count; i++)
        most = fmaxf(most, figure_at(result, figure, i));
    return most;
}

static float most_of(const struct scale_result *result, enum figure figure)
{
    float most = 1;
    for (size_t i = 0; i < result->series_count; i++)
        most = fmaxf(most, figure_at(result, figure, i));
    return most;
}

/* An even number at least as high, so that half of it is a number too. */
static float axis_of(float most)
{
    return 2 * ceilf(most / 2);
}

static void curve(FILE *out, const struct scale_line *line, enum figure figure, size_t seconds,
                  int top, float most)
{
    int before = -1;

    fprintf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" d=\"", line->color);
    for (int x = 0; x < COLUMNS; x++) {
        int y = top + HIGH - (int)lroundf(column(line->result, figure, seconds, x) / most * HIGH);
        if (x == 0)
            fprintf(out, "M%d %d", LEFT, y);
        else if (y != before)
            fprintf(out, "H%dV%d", LEFT + x, y);
        before = y;
    }
    fprintf(out, "H%d\"><title>", LEFT + WIDE);
    svg_text(out, slice_of(line->name));
    fputs("</title></path>\n", out);
}

static void axes(FILE *out, int top, float most, const char *label)
{
    for (int i = 0; i <= 2; i++) {
        int y = top + HIGH - HIGH * i / 2;
        fprintf(out,
                "<path stroke=\"#ddd\" d=\"M%d %dh%d\"/><text x=\"%d\" y=\"%d\" "
                "text-anchor=\"end\">%ld</text>\n",
                LEFT, y, WIDE, LEFT - 6, y + 4, lroundf(most * (float)i / 2));
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" fill=\"#555\">%s</text>\n", LEFT, top - 6, label);
}

static void times(FILE *out, size_t seconds, int top)
{
    for (size_t minute = 0; minute * 60 <= seconds; minute += 10) {
        int x = LEFT + (int)(minute * 60 * WIDE / seconds);
        fprintf(out,
                "<path stroke=\"#eee\" d=\"M%d %dv%d\"/><text x=\"%d\" y=\"%d\" "
                "text-anchor=\"middle\">%zu min</text>\n",
                x, TOP, 2 * HIGH + GAP, x, top + 18, minute);
    }
}

void scale_svg(FILE *out, const char *title, const struct scale_line *lines, size_t count)
{
    int below = TOP + HIGH + GAP, bottom = below + HIGH;
    size_t seconds = 1;
    float most = 1, replicas = 1;

    for (size_t i = 0; i < count; i++) {
        const struct scale_result *result = lines[i].result;
        seconds = result->series_count > seconds ? result->series_count : seconds;
        most = fmaxf(most, most_of(result, ARRIVALS));
        replicas = fmaxf(replicas, most_of(result, REPLICAS));
    }
    most = axis_of(most);
    replicas = axis_of(replicas);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 920 %d\" width=\"920\" "
            "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"920\" height=\"%d\" fill=\"#fff\"/>\n"
            "<text x=\"%d\" y=\"18\" font-size=\"15\">",
            bottom + 50, bottom + 50, bottom + 50, LEFT);
    svg_text(out, slice_of(title));
    fputs("</text>\n", out);
    times(out, seconds, bottom);
    axes(out, TOP, most, "requests that arrive in a second");
    axes(out, below, replicas, "replicas, from the command to start them to gone");
    if (count > 0)
        curve(out, &(struct scale_line){ "arrivals", "#777", lines[0].result }, ARRIVALS, seconds,
              TOP, most);
    for (size_t i = 0; i < count; i++) {
        curve(out, &lines[i], REPLICAS, seconds, below, replicas);
        fprintf(out,
                "<path stroke=\"%s\" stroke-width=\"3\" d=\"M%d %dh24\"/>"
                "<text x=\"%d\" y=\"%d\">",
                lines[i].color, LEFT + 200 * (int)i, bottom + 36, LEFT + 30 + 200 * (int)i,
                bottom + 40);
        svg_text(out, slice_of(lines[i].name));
        fputs("</text>\n", out);
    }
    fputs("</svg>\n", out);
}
