/* SPDX-License-Identifier: Apache-2.0 */
/* perigee simulate: the world of sim/edge.h from files and flags, its runs, and the tables, JSON
 * and pictures of what came of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/err.h"
#include "bin/roles.h"
#include "bin/simulate_failing.h"
#include "bin/simulate_law.h"
#include "cli/cli.h"
#include "geo/cities.h"
#include "sim/edge_all.h"
#include "sim/edge_picture.h"
#include "sim/sites.h"
#include "sys/home.h"

#define SITES_FILE "sites.csv"
#define SITES_BYTES_MAX (4U << 20)
enum { PATH_BYTES = 4096, TEXT_BYTES = 64, CLOUDS = 2 };

static int simulate_run(struct cli *cli, struct err *err);

/* clang-format off */
static const struct cli_option options[] = {
    { "--sites", "FILE", "Where PoPs stand: CSV with a first line of names (iata or name, city, country; lat, lon, region, price); those that come with Perigee unless told.", false },
    { "--scenario", "NAME", "healthy, spike, failures or cold; all unless told.", true },
    { "--seed", "N", "Another course of chance; 1 unless told.", false },
    { "--failures", "N", "PoPs that fail; 30 unless told, and no more than a tenth.", false },
    { "--failing", "WHICH", "Which ones: chance (unless told), largest (those with most clients near them), or a site by its name; several times.", true },
    { "--silent", NULL, "PoPs that fail take all with them: who tries one hears nothing, and tries the next after 250 ms. Unless told, its processes end: connections are refused, and reset.", false },
    { "--resolvers", "N", "In each city so many resolvers keep an answer of DNS for its TTL, and give it to all of their clients; 0 unless told: each request asks DNS.", false },
    { "--up-for", "N", "Seconds that PoPs have been up when it begins; 600 unless told. Below two minutes an answer is kept for 5 s, else 20.", false },
    { "--spike", "N", "Times as much around one large PoP; 5 unless told.", false },
    { "--rate", "N", "Requests a second, of all the world; 12000 unless told.", false },
    { "--seconds", "N", "Simulated time; 60 unless told.", false },
    { "--service-ms", "N", "Mean time to serve a request; 80 unless told.", false },
    { "--start-ms", "N", "Time to start a cold replica; 2000 unless told.", false },
    { "--people", "N", "Cities of at least so many people; 15000 unless told.", false },
    { "--spec", "FILE", "An endpoint's spec: its residency and regions hold. Unless told, requests from the EEA are processed in the EEA, others anywhere.", false },
    { "--sets", "FILE", "Jurisdictions of your own that the spec names.", false },
    { "--anywhere", NULL, "No residency at all.", false },
    { "--svg", "DIR", "Write map.svg and a picture of latencies for each scenario there.", false },
    {},
};

const struct cli_command simulate_command = {
    "simulate", NULL, "",
    "Try how near requests are served: by the code that routes them, over PoPs and all cities "
    "(GeoNames, CC BY 4.0), beside nearest-only and an oracle.",
    options,
    "  perigee simulate\n"
    "  perigee simulate --sites sites.csv --scenario failures --seed 7\n"
    "  perigee simulate --spec digits.yaml --svg /tmp/world\n",
    0, 0, simulate_run,
};
/* clang-format on */

struct simulation {
    struct cli *cli;
    const struct edge_world *world;
    struct edge_all *all;
    struct edge_cloud clouds[CLOUDS];
    struct cli_progress progress;
};

/* ---- what is simulated ----------------------------------------------------------------------- */

static int option_take(struct cli *cli, const char *name, uint64_t least, uint64_t most,
                       uint64_t *ret, struct err *err)
{
    uint64_t value = *ret;

    if (!cli_option_value(cli, name))
        return 0;
    if (!cli_option_u64(cli, name, &value, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    if (value < least || value > most)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "%s is between %" PRIu64 " and %" PRIu64,
                                      name, least, most));
    *ret = value;
    return 0;
}

static int options_take(struct cli *cli, const struct sites *all, struct edge_options *ret,
                        struct err *err)
{
    size_t sites = all->count;
    struct edge_options known = EDGE_OPTIONS_DEFAULT;
    uint64_t seed = known.seed, rate = (uint64_t)known.rate_per_s;
    uint64_t seconds = (uint64_t)known.duration_s, service = (uint64_t)known.service_ms;
    uint64_t start = (uint64_t)known.start_ms, people = known.population_min;
    uint64_t failures = sites / 10 < known.failures ? sites / 10 : known.failures;
    uint64_t spike = (uint64_t)known.spike_times, up = known.up_s, resolvers = known.resolvers;
    const struct {
        const char *name;
        uint64_t least, most, *value;
    } rows[] = {
        { "--seed", 0, UINT64_MAX, &seed },
        { "--rate", 1, 1'000'000, &rate },
        { "--seconds", 1, 86'400, &seconds },
        { "--service-ms", 1, 60'000, &service },
        { "--start-ms", 0, 600'000, &start },
        { "--people", 1, UINT32_MAX, &people },
        { "--failures", 0, sites - 1, &failures },
        { "--spike", 1, 1000, &spike },
        { "--up-for", 0, 86'400, &up },
        { "--resolvers", 0, EDGE_RESOLVERS_MAX, &resolvers },
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int r = option_take(cli, rows[i].name, rows[i].least, rows[i].most, rows[i].value, err);
        if (r < 0)
            return r;
    }
    *ret = (struct edge_options){ .seed = seed,
                                  .duration_s = (double)seconds,
                                  .rate_per_s = (double)rate,
                                  .service_ms = (double)service,
                                  .start_ms = (double)start,
                                  .population_min = (uint32_t)people,
                                  .silent = cli_option_value(cli, "--silent") != NULL,
                                  .spike_times = (double)spike,
                                  .resolvers = (uint32_t)resolvers,
                                  .up_s = (uint32_t)up };
    return simulate_failing(cli, all, (uint32_t)failures, ret, err);
}

static int scenarios_take(struct cli *cli, struct edge_all *all, struct err *err)
{
    const char *name;

    for (size_t i = 0; (name = cli_option_nth(cli, "--scenario", i)); i++) {
        size_t at = 0;
        while (at < EDGE_SCENARIOS && strcmp(name, edge_scenario_text(at)) != 0)
            at++;
        if (at == EDGE_SCENARIOS)
            return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                          "--scenario is healthy, spike, failures or cold, not "
                                          "'%s'",
                                          ERR_TEXT(name)));
        all->scenario[at] = true;
    }
    for (size_t i = 0; !cli_option_value(cli, "--scenario") && i < EDGE_SCENARIOS; i++)
        all->scenario[i] = true;
    return 0;
}

static void cities_close(void *data)
{
    cities_free(data);
}

static int files_read(struct cli *cli, const struct cities **ret_cities, struct sites *ret_sites,
                      struct err *err)
{
    char folder[HOME_PATH_BYTES], path[PATH_BYTES];
    const char *sites = cli_option_value(cli, "--sites");
    struct cities *cities;
    struct slice text;

    int r = home_libdir(folder, err);
    if (r < 0)
        return r;
    (void)snprintf(path, sizeof path, "%s/" CITIES_FILE, folder);
    r = cities_open(path, &cities, err);
    if (r < 0)
        return err_wrap(err, "the file of cities (install Perigee whole)");
    arena_defer(cli->arena, cities_close, cities);
    *ret_cities = cities;
    (void)snprintf(path, sizeof path, "%s/" SITES_FILE, folder);
    r = cli_read(cli, sites ? sites : path, SITES_BYTES_MAX, &text, err);
    if (r < 0)
        return r;
    r = sites_parse(cli->arena, text, cities, ret_sites, err);
    return r < 0 ? err_wrap(err, "%s", sites ? ERR_TEXT(sites) : path) : 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static double part(uint64_t some, uint64_t all)
{
    return all ? (double)some / (double)all : 0;
}

struct figures {
    double mean, lost, p50, p95, p99, below, reached, reached_known, inside, wait, total, cost;
};

static struct figures figures_of(const struct edge_result *result)
{
    uint64_t served = result->requests - result->refused;
    double each = served ? 1 / (double)served : 0;

    return (struct figures){ .mean = result->network_ms * each,
                             .lost = result->lost_ms * each,
                             .p50 = edge_quantile(result->network, 0.5),
                             .p95 = edge_quantile(result->network, 0.95),
                             .p99 = edge_quantile(result->network, 0.99),
                             .below = edge_below(result->network, 50),
                             .reached = part(result->did_50, result->could_50),
                             .reached_known = part(result->did_50_known, result->could_50_known),
                             .inside = 1 - part(result->outside, served),
                             .wait = (result->wait_ms + result->cold_ms) * each,
                             .total = result->total_ms * each,
                             .cost = result->cost * each * 1e6 }; /* of a million */
}

/* Of the requests that the oracle serves under 50 ms: what is left of a world that has no room for
 * all, nobody serves. */
static double of_oracle(const struct edge_result *result, const struct edge_result *oracle)
{
    return part(result->did_50, oracle->did_50);
}

/* 80 columns wide. */
static void row_print(const char *name, const struct figures *f)
{
    printf("%-12s %6.2f %5.1f %5.1f %6.1f %6.2f ", name, f->mean, f->p50, f->p95, f->p99,
           f->below * 100);
    if (f->reached >= 0)
        printf("%6.2f ", f->reached * 100);
    else
        printf("%6s ", "-");
    printf("%6.2f %6.2f %6.2f %5.1f\n", f->inside * 100, f->wait, f->total, f->cost / 1000);
}

static void scenario_print(struct simulation *simulation, enum edge_scenario scenario)
{
    struct cli *cli = simulation->cli;
    const struct edge_result *results = simulation->all->result[scenario];
    const struct edge_result *ours = &results[EDGE_OURS];
    double over = figures_of(ours).total / figures_of(&results[EDGE_ORACLE]).total - 1;

    printf("\n%s%s%s: %" PRIu64 " requests, %.2f %% over the oracle\n"
           "%-12s %6s %5s %5s %6s %6s %6s %6s %6s %6s %5s\n",
           cli_color(cli, CLI_BOLD), edge_scenario_text(scenario), cli_color(cli, CLI_PLAIN),
           ours->requests, over * 100, "", "MEAN", "P50", "P95", "P99", "<50MS", "COULD", "IN LAW",
           "WAIT", "TOTAL", "COST");
    for (size_t way = 0; way < EDGE_WAYS; way++) {
        struct figures figures = figures_of(&results[way]);
        row_print(edge_way_text(way), &figures);
    }
    printf("(perigee: %" PRIu64 " passed on, %" PRIu64 " tries at the dead", ours->forwarded,
           ours->retried);
    if (simulation->world->options.resolvers > 0)
        printf(", %.1f %% asked DNS", part(ours->asked, ours->requests) * 100);
    printf(")\n(perigee's COULD is %.2f %% of the oracle's)\n",
           of_oracle(ours, &results[EDGE_ORACLE]) * 100);
    if (scenario == EDGE_FAILURE) {
        printf("(perigee's COULD but for the first %.0f s after the deaths: %.2f;\n"
               " the last try at a dead PoP came %.1f s after them; %.2f of MEAN went there)\n",
               edge_known_s(simulation->world), figures_of(ours).reached_known * 100,
               ours->dead_for_s, figures_of(ours).lost);
        simulate_failed_print(cli, simulation->world);
    }
    for (size_t i = 0; scenario == EDGE_HEALTHY && i < CLOUDS; i++) {
        const struct edge_cloud *cloud = &simulation->clouds[i];
        double service = simulation->world->options.service_ms;
        struct figures figures = { .mean = cloud->mean_ms,
                                   .p50 = cloud->p50_ms,
                                   .p95 = cloud->p95_ms,
                                   .p99 = cloud->p99_ms,
                                   .below = cloud->below_50,
                                   .reached = -1,
                                   .inside = cloud->in_jurisdiction,
                                   .total = cloud->mean_ms + service,
                                   .cost = cloud->price * service * 1000 };
        row_print(i ? "3 regions" : "1 region", &figures);
    }
}

static void tables_print(struct simulation *simulation)
{
    const struct edge_world *world = simulation->world;
    struct cli *cli = simulation->cli;

    edge_map_text(stdout, simulation->all, cli->columns);
    printf("%zu PoPs (o; @ the busiest), %zu cities, %.2f billion people, seed %" PRIu64 "\n%s\n",
           world->site_count, world->city_count, world->people / 1e9, world->options.seed,
           CITIES_SOURCE);
    for (size_t i = 0; i < EDGE_SCENARIOS; i++)
        if (simulation->all->scenario[i])
            scenario_print(simulation, i);
    fputs("\nMEAN to P99: network latency in ms, by 14.4 ms + 0.0157 ms/km. <50MS: % of all;\n"
          "COULD: % of those that a living PoP that may could. IN LAW: % processed where\n"
          "they may be. WAIT: for a place or a start. TOTAL: with the service. COST: of a\n"
          "thousand requests, at the sites' prices.\n",
          stdout);
    if (!simulation->all->scenario[EDGE_HEALTHY])
        return;
    for (size_t i = 0; i < CLOUDS; i++) {
        const struct edge_cloud *cloud = &simulation->clouds[i];
        fputs(i ? "; 3 regions: " : "1 region: ", stdout);
        for (uint32_t k = 0; k < cloud->count; k++) {
            fputs(k ? ", " : "", stdout);
            cli_print_text(stdout, world->sites->list[cloud->site[k]].city);
        }
    }
    fputs("\n(the best for all cities, with room without end)\n", stdout);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void way_json(struct json_writer *w, const struct edge_result *result,
                     const struct edge_result *oracle)
{
    struct figures f = figures_of(result);

    json_object_begin(w);
    json_member_u64(w, "requests", result->requests);
    json_member_double(w, "network_mean_ms", f.mean);
    json_member_double(w, "lost_mean_ms", f.lost);
    json_member_double(w, "network_p50_ms", f.p50);
    json_member_double(w, "network_p95_ms", f.p95);
    json_member_double(w, "network_p99_ms", f.p99);
    json_member_double(w, "under_50_ms", f.below);
    json_member_double(w, "under_50_ms_of_could", f.reached);
    json_member_double(w, "under_50_ms_of_oracle", of_oracle(result, oracle));
    json_member_double(w, "under_50_ms_of_could_once_known", f.reached_known);
    json_member_double(w, "in_jurisdiction", f.inside);
    json_member_double(w, "wait_mean_ms", f.wait);
    json_member_double(w, "total_mean_ms", f.total);
    json_member_double(w, "cost_of_a_million", f.cost);
    json_member_u64(w, "outside", result->outside);
    json_member_u64(w, "passed_on", result->forwarded);
    json_member_u64(w, "tried_again", result->retried);
    json_member_u64(w, "asked_dns", result->asked);
    json_member_double(w, "dead_tried_for_s", result->dead_for_s);
    json_member_u64(w, "refused", result->refused);
    json_object_end(w);
}

static void cloud_json(struct json_writer *w, const struct simulation *simulation, size_t i)
{
    const struct edge_cloud *cloud = &simulation->clouds[i];

    json_object_begin(w);
    json_key(w, "sites");
    json_array_begin(w);
    for (uint32_t k = 0; k < cloud->count; k++)
        json_string(w, simulation->world->sites->list[cloud->site[k]].name);
    json_array_end(w);
    json_member_double(w, "network_mean_ms", cloud->mean_ms);
    json_member_double(w, "network_p50_ms", cloud->p50_ms);
    json_member_double(w, "network_p95_ms", cloud->p95_ms);
    json_member_double(w, "network_p99_ms", cloud->p99_ms);
    json_member_double(w, "under_50_ms", cloud->below_50);
    json_member_double(w, "in_jurisdiction", cloud->in_jurisdiction);
    json_object_end(w);
}

static int json_write(struct simulation *simulation)
{
    const struct edge_world *world = simulation->world;
    struct json_writer w;

    json_begin(&w, simulation->cli->arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "sites", world->site_count);
    json_member_u64(&w, "cities", world->city_count);
    json_member_double(&w, "people", world->people);
    json_member_u64(&w, "seed", world->options.seed);
    json_member_u64(&w, "resolvers", world->options.resolvers);
    json_member_text(&w, "source", CITIES_SOURCE);
    json_key(&w, "scenarios");
    json_object_begin(&w);
    for (size_t i = 0; i < EDGE_SCENARIOS; i++) {
        if (!simulation->all->scenario[i])
            continue;
        json_key(&w, edge_scenario_text(i));
        json_object_begin(&w);
        for (size_t way = 0; way < EDGE_WAYS; way++) {
            json_key(&w, (const char *[]){ "nearest", "geography", "perigee", "oracle" }[way]);
            way_json(&w, &simulation->all->result[i][way],
                     &simulation->all->result[i][EDGE_ORACLE]);
        }
        if (i == EDGE_FAILURE) {
            json_key(&w, "failed");
            simulate_failed_json(simulation->cli, world, &w);
        }
        json_object_end(&w);
    }
    json_object_end(&w);
    json_key(&w, "clouds");
    json_array_begin(&w);
    for (size_t i = 0; i < CLOUDS; i++)
        cloud_json(&w, simulation, i);
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(simulation->cli, &w);
}

/* ---- pictures -------------------------------------------------------------------------------- */

static int picture_write(const struct simulation *simulation, const char *folder, const char *name,
                         int scenario, struct err *err)
{
    char path[PATH_BYTES];
    int size = snprintf(path, sizeof path, "%s/%s.svg", folder, name);

    if (size < 0 || (size_t)size >= sizeof path)
        return err_set(err, ERR_BAD_INPUT, "--svg: the path is too long");
    FILE *file = fopen(path, "we");
    if (!file)
        return err_set(err, ERR_BAD_INPUT, "'%s': %s", ERR_TEXT(path), strerror(errno));
    if (scenario < 0)
        edge_map_svg(file, simulation->all);
    else
        edge_curves_svg(file, simulation->all, (enum edge_scenario)scenario);
    bool failed = ferror(file) != 0;
    failed |= fclose(file) != 0;
    return failed ? err_set(err, ERR_INTERNAL, "'%s' cannot be written: is the disk full?",
                            ERR_TEXT(path))
                  : 0;
}

static int pictures_write(const struct simulation *simulation, const char *folder, struct err *err)
{
    if (mkdir(folder, 0777) < 0 && errno != EEXIST)
        return err_set(err, ERR_BAD_INPUT, "--svg: '%s': %s", ERR_TEXT(folder), strerror(errno));
    int r = picture_write(simulation, folder, "map", -1, err);
    for (int i = 0; r == 0 && i < EDGE_SCENARIOS; i++)
        if (simulation->all->scenario[i])
            r = picture_write(simulation, folder, edge_scenario_text((enum edge_scenario)i), i,
                              err);
    return r;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void on_progress(double part_done, void *data)
{
    char text[TEXT_BYTES];
    int size = snprintf(text, sizeof text, "%.0f %%", part_done * 100);
    cli_progress_text(data, (struct slice){ text, (size_t)size });
}

static int simulate_run(struct cli *cli, struct err *err)
{
    struct simulation simulation = { .cli = cli, .all = ARENA_NEW(cli->arena, struct edge_all) };
    const struct cities *cities = NULL;
    const struct residency *residency = NULL;
    struct edge_options wanted;
    struct sites sites;

    *simulation.all = (struct edge_all){};
    int r = scenarios_take(cli, simulation.all, err);
    if (r == 0)
        r = files_read(cli, &cities, &sites, err);
    if (r == 0)
        r = simulate_law(cli, &sites, &residency, err);
    if (r == 0)
        r = options_take(cli, &sites, &wanted, err);
    if (r < 0)
        return r;
    cli_progress_begin(&simulation.progress, "simulating");
    simulation.world = edge_world_new(cli->arena, &sites, cities, residency, &wanted);
    simulation.all->world = simulation.world;
    for (uint32_t i = 0; i < CLOUDS && simulation.world->city_count > 0; i++)
        edge_cloud(cli->arena, simulation.world, 1 + 2 * i, &simulation.clouds[i]);
    if (simulation.world->city_count > 0)
        edge_all_run(cli->arena, simulation.all, on_progress, &simulation.progress);
    cli_progress_end(&simulation.progress);
    if (simulation.world->city_count == 0)
        return err_set(err, ERR_BAD_INPUT, "no city has so many people: a smaller --people");
    const char *folder = cli_option_value(cli, "--svg");
    if (folder) {
        r = pictures_write(&simulation, folder, err);
        if (r < 0)
            return r;
    }
    if (cli->json)
        return json_write(&simulation);
    tables_print(&simulation);
    return 0;
}
