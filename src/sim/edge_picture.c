/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Degrees are the map's coordinates: x = longitude, y = -latitude. Numbers are written by hand of
 * integers, not by %f, whose point depends on the locale.
 */
#include "sim/edge_picture.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "geo/cities.h"
#include "sim/sites.h"
#include "sim/svg.h"

#define NORTH 78.0 /* of the map: nobody lives beyond */
#define SOUTH (-56.0)
enum { MAP_COLUMNS_MAX = 160, MAP_ROWS_MAX = 60, CURVE_MS = 120, CURVE_STEPS = 240 };

/* Two decimals. */
static void number(FILE *out, double value)
{
    int64_t hundredths = llround(value * 100);
    const char *sign = hundredths < 0 ? "-" : "";

    hundredths = hundredths < 0 ? -hundredths : hundredths;
    fprintf(out, "%s%" PRId64 ".%02" PRId64, sign, hundredths / 100, hundredths % 100);
}

static double latitude(const struct edge_point *point)
{
    return asin((double)point->spot.z) * 180 / M_PI;
}

static double longitude(const struct edge_point *point)
{
    return atan2((double)point->spot.y, (double)point->spot.x) * 180 / M_PI;
}

static uint64_t served(const struct edge_all *all, size_t site)
{
    for (size_t i = 0; i < EDGE_SCENARIOS; i++)
        if (all->scenario[i])
            return all->result[i][EDGE_OURS].served[site];
    return 0;
}

static uint64_t served_most(const struct edge_all *all)
{
    uint64_t most = 1;
    for (size_t i = 0; i < all->world->site_count; i++)
        most = served(all, i) > most ? served(all, i) : most;
    return most;
}

/* ---- map ------------------------------------------------------------------------------------- */

static const struct {
    float ms;
    const char *color, *label;
} bands[] = {
    { 20, "#1a7f5a", "under 20 ms" },
    { 30, "#6cbf84", "under 30 ms" },
    { 50, "#e6b94c", "under 50 ms" },
    { INFINITY, "#c8443c", "more" },
};
enum { BANDS = sizeof bands / sizeof *bands };

/* One path for each band, a short stroke for each city: a tenth of the bytes of circles. */
static void cities_svg(FILE *out, const struct edge_world *world)
{
    for (size_t band = 0; band < BANDS; band++) {
        fprintf(out, "<path class=\"c\" stroke=\"%s\" d=\"", bands[band].color);
        for (size_t i = 0; i < world->city_count; i++) {
            uint32_t site = world->permitted[i];
            float rtt = site == UINT32_MAX ? INFINITY : world->rtt[i * world->site_count + site];
            if (rtt >= bands[band].ms && band + 1 < BANDS)
                continue;
            if (band > 0 && rtt < bands[band - 1].ms)
                continue;
            fputc('M', out);
            number(out, longitude(&world->city[i]));
            fputc(' ', out);
            number(out, -latitude(&world->city[i]));
            fputs("h0", out);
        }
        fputs("\"/>\n", out);
    }
}

static void sites_svg(FILE *out, const struct edge_all *all)
{
    double most = (double)served_most(all);

    for (size_t i = 0; i < all->world->site_count; i++) {
        const struct site *site = &all->world->sites->list[i];
        char country[3];
        country_code_of(site->country, country);
        fputs("<circle cx=\"", out);
        number(out, site->longitude);
        fputs("\" cy=\"", out);
        number(out, -site->latitude);
        fputs("\" r=\"", out);
        number(out, 0.5 + 2.5 * sqrt((double)served(all, i) / most));
        fputs("\"><title>", out);
        svg_text(out, site->name);
        fputs(": ", out);
        svg_text(out, site->city);
        fprintf(out, ", %s, %" PRIu32 " places, %" PRIu64 " requests</title></circle>\n", country,
                all->world->places[i], served(all, i));
    }
}

void edge_map_svg(FILE *out, const struct edge_all *all)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-180 %d 360 %d\" width=\"1440\" "
            "height=\"%d\" font-family=\"sans-serif\" font-size=\"4\">\n"
            "<style>.c{stroke-width:.7;stroke-linecap:round;fill:none;opacity:.75}"
            "circle{fill:#1d3557;fill-opacity:.55;stroke:#fff;stroke-width:.15}</style>\n"
            "<title>PoPs and cities</title>\n"
            "<rect x=\"-180\" y=\"%d\" width=\"360\" height=\"%d\" fill=\"#f7f5ef\"/>\n",
            (int)-NORTH, (int)(NORTH - SOUTH) + 10, ((int)(NORTH - SOUTH) + 10) * 4, (int)-NORTH,
            (int)(NORTH - SOUTH) + 10);
    cities_svg(out, all->world);
    sites_svg(out, all);
    for (size_t band = 0; band < BANDS; band++)
        fprintf(out,
                "<circle cx=\"%d\" cy=\"%d\" r=\"1.2\" style=\"fill:%s;fill-opacity:1\"/>"
                "<text x=\"%d\" y=\"%d\">%s</text>\n",
                -174 + 40 * (int)band, (int)-SOUTH + 3, bands[band].color, -171 + 40 * (int)band,
                (int)-SOUTH + 4, bands[band].label);
    fprintf(out,
            "<text x=\"-12\" y=\"%d\" fill=\"#555\">round trip from each city; circles: PoPs by "
            "requests served</text>\n"
            "<text x=\"178\" y=\"%d\" font-size=\"2.6\" text-anchor=\"end\" fill=\"#777\">%s"
            "</text>\n</svg>\n",
            (int)-SOUTH + 4, (int)-SOUTH + 8, CITIES_SOURCE);
}

void edge_map_text(FILE *out, const struct edge_all *all, int columns)
{
    const struct edge_world *world = all->world;
    int width = columns > MAP_COLUMNS_MAX ? MAP_COLUMNS_MAX : columns < 40 ? 40 : columns;
    int height = (int)(width * (NORTH - SOUTH) / 360 / 2); /* a character is twice as high */
    static char rows[MAP_ROWS_MAX][MAP_COLUMNS_MAX];
    double people[MAP_ROWS_MAX][MAP_COLUMNS_MAX] = {};
    uint64_t most = served_most(all);

    height = height > MAP_ROWS_MAX ? MAP_ROWS_MAX : height;
    memset(rows, ' ', sizeof rows);
    for (size_t i = 0; i < world->city_count + world->site_count; i++) {
        bool city = i < world->city_count;
        const struct edge_point *at = city ? &world->city[i] : &world->site[i - world->city_count];
        int x = (int)((longitude(at) + 180) / 360 * width);
        int y = (int)((NORTH - latitude(at)) / (NORTH - SOUTH) * height);
        if (x < 0 || x >= width || y < 0 || y >= height)
            continue;
        char *cell = &rows[y][x];
        if (city) {
            people[y][x] += world->population[i];
            *cell = people[y][x] > 2e6 ? ':' : '.';
        } else if (*cell != '@') {
            *cell = served(all, i - world->city_count) * 4 > most ? '@' : 'o';
        }
    }
    for (int y = 0; y < height; y++) {
        int end = width;
        while (end > 0 && rows[y][end - 1] == ' ')
            end--;
        fprintf(out, "%.*s\n", end, rows[y]);
    }
}

/* ---- curves ---------------------------------------------------------------------------------- */

#define LEFT 60.0
#define TOP 40.0
#define WIDE 640.0
#define HIGH 360.0

static void curve(FILE *out, const struct edge_result *result, const char *color, const char *dash)
{
    fprintf(out,
            "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" d=\"",
            color, dash);
    for (int i = 0; i <= CURVE_STEPS; i++) {
        double ms = (double)i * CURVE_MS / CURVE_STEPS;
        fputc(i ? 'L' : 'M', out);
        number(out, LEFT + WIDE * ms / CURVE_MS);
        fputc(' ', out);
        number(out, TOP + HIGH * (1 - edge_below(result->delay, ms)));
    }
    fputs("\"/>\n", out);
}

static void axes(FILE *out, const char *title)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 740 460\" width=\"740\" "
            "height=\"460\" font-family=\"sans-serif\" font-size=\"13\">\n"
            "<rect width=\"740\" height=\"460\" fill=\"#fff\"/>\n"
            "<text x=\"60\" y=\"24\" font-size=\"16\">%s: part of the requests with at most this "
            "round trip and wait</text>\n",
            title);
    for (int i = 0; i <= 10; i++) {
        int y = (int)(TOP + HIGH * (10 - i) / 10), x = (int)LEFT;
        fprintf(out,
                "<path stroke=\"#ddd\" d=\"M%d %dh%d\"/><text x=\"%d\" y=\"%d\" "
                "text-anchor=\"end\">%d %%</text>\n",
                x, y, (int)WIDE, x - 6, y + 4, i * 10);
    }
    for (int ms = 0; ms <= CURVE_MS; ms += 10) {
        int x = (int)(LEFT + WIDE * ms / CURVE_MS), y = (int)TOP;
        fprintf(out,
                "<path stroke=\"%s\" d=\"M%d %dv%d\"/><text x=\"%d\" y=\"%d\" "
                "text-anchor=\"middle\">%d</text>\n",
                ms == 50 ? "#999" : "#eee", x, y, (int)HIGH, x, (int)(TOP + HIGH) + 18, ms);
    }
    fputs("<text x=\"700\" y=\"438\" text-anchor=\"end\">ms</text>\n", out);
}

void edge_curves_svg(FILE *out, const struct edge_all *all, enum edge_scenario scenario)
{
    static const struct {
        const char *color, *dash;
    } lines[EDGE_WAYS] = {
        [EDGE_NEAREST] = { "#c8443c", "2 3" },
        [EDGE_GEOGRAPHY] = { "#e09f3e", "6 3" },
        [EDGE_OURS] = { "#1a7f5a", "none" },
        [EDGE_ORACLE] = { "#1d3557", "1 2" },
    };

    axes(out, edge_scenario_text(scenario));
    for (size_t way = 0; way < EDGE_WAYS; way++) {
        int y = (int)(TOP + HIGH) - 80 + 18 * (int)way;
        curve(out, &all->result[scenario][way], lines[way].color, lines[way].dash);
        fprintf(out,
                "<path stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\" d=\"M540 %dh30\"/>"
                "<text x=\"578\" y=\"%d\">%s</text>\n",
                lines[way].color, lines[way].dash, y, y + 4, edge_way_text(way));
    }
    fputs("</svg>\n", out);
}
