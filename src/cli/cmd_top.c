/* SPDX-License-Identifier: Apache-2.0 */
/* top: endpoints, replicas, load and latency, as they change. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/screen.h"
#include "cli/view.h"
#include "io/loop.h"
#include "spec/units.h"

enum {
    ITEMS_MAX = 1000, /* what control tells at once */
    EVERY_MS = 2000,
    EVERY_MS_MIN = 200,
    ASK_MS = 3000, /* while it answers late, keys wait */
    WIDE_COLUMNS = 100,
    CELL_COLUMNS = 8, /* of a table, cut, with its gap */
    HELP_ROWS = 10,   /* with fewer, the keys are not told */
};

/* ---- what is shown --------------------------------------------------------------------------- */

struct item {
    struct slice name, state;
    uint64_t revision, ready, replicas, running, queued;
    double rate, errors, p50_ms, p99_ms; /* NAN: not known */
    yyjson_val *pops;
};

enum order {
    BY_NAME,
    BY_STATE,
    BY_REPLICAS,
    BY_RATE,
    BY_ERRORS,
    BY_RUNNING,
    BY_WAITING,
    BY_P50,
    BY_P99,
    ORDERS
};
static const struct {
    const char *word, *title;
    char key;
    bool most_first;
} orders[ORDERS] = {
    [BY_NAME] = { "name", "ENDPOINT", 'n', false },
    [BY_STATE] = { "state", "STATE", 's', false },
    [BY_REPLICAS] = { "replicas", "REPLICAS", 'u', true },
    [BY_RATE] = { "rate", "REQ/S", 'r', true },
    [BY_ERRORS] = { "errors", "ERR/S", 'e', true },
    [BY_RUNNING] = { "running", "RUN", 'b', true },
    [BY_WAITING] = { "waiting", "WAIT", 'w', true },
    [BY_P50] = { "p50", "P50", 'm', true },
    [BY_P99] = { "p99", "P99", 'l', true },
};

struct top {
    struct cli *cli;
    struct arena *arena; /* of the answer shown */
    yyjson_val *answer;
    struct slice body;
    struct err error; /* code 0: control answered */
    enum order order;
    bool reverse, pops;
    size_t scroll;
};

static double figure(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_num(value) ? yyjson_get_num(value) : NAN;
}

static struct item item_read(yyjson_val *row, const char *name)
{
    return (struct item){
        .name = view_text(row, name),
        .state = view_text(row, "state"),
        .revision = view_number(row, "revision"),
        .ready = view_number(row, "ready"),
        .replicas = view_number(row, "replicas"),
        .running = view_number(row, "running"),
        .queued = view_number(row, "queued"),
        .rate = figure(row, "rate"),
        .errors = figure(row, "error_rate"),
        .p50_ms = figure(row, "p50_ms"),
        .p99_ms = figure(row, "p99_ms"),
        .pops = json_member(row, "pops"),
    };
}

static double value_of(const struct item *item, enum order order)
{
    double values[ORDERS] = {
        [BY_REPLICAS] = (double)item->ready,
        [BY_RATE] = item->rate,
        [BY_ERRORS] = item->errors,
        [BY_RUNNING] = (double)item->running,
        [BY_WAITING] = (double)item->queued,
        [BY_P50] = item->p50_ms,
        [BY_P99] = item->p99_ms,
    };
    return isnan(values[order]) ? -1 : values[order];
}

static int compare(const void *a, const void *b, void *data)
{
    const struct item *x = a, *y = b;
    const struct top *top = data;
    int by_name = slice_order(x->name, y->name);
    int order = 0;
    if (top->order == BY_STATE) {
        order = slice_order(x->state, y->state);
    } else if (top->order == BY_NAME) {
        order = by_name;
    } else {
        double left = value_of(x, top->order), right = value_of(y, top->order);
        order = (left > right) - (left < right);
    }
    if (orders[top->order].most_first != top->reverse)
        order = -order;
    return order ? order : by_name;
}

static struct item *items_of(const struct top *top, struct arena *arena, size_t *ret_count)
{
    yyjson_val *list = json_member(top->answer, "items"), *row;
    size_t index, count;
    struct item *items = ARENA_ARRAY(arena, struct item, yyjson_arr_size(list) + 1);
    yyjson_arr_foreach(list, index, count, row) items[index] = item_read(row, "endpoint");
    qsort_r(items, count, sizeof *items, compare, (void *)(uintptr_t)top);
    *ret_count = count;
    return items;
}

/* ---- words ----------------------------------------------------------------------------------- */

static struct slice rate_words(struct arena *arena, double rate)
{
    if (isnan(rate) || rate == 0)
        return SLICE("-");
    return slice_of(rate < 9.995   ? arena_format(arena, "%.2f", rate)
                    : rate < 99.95 ? arena_format(arena, "%.1f", rate)
                                   : arena_format(arena, "%.0f", rate));
}

static struct slice time_words(struct arena *arena, double ms)
{
    if (isnan(ms))
        return SLICE("-");
    return slice_of(ms < 9.95     ? arena_format(arena, "%.1f ms", ms)
                    : ms < 9999.5 ? arena_format(arena, "%.0f ms", ms)
                                  : arena_format(arena, "%.0f s", ms / 1000));
}

static struct slice count_words(struct arena *arena, uint64_t count)
{
    return count ? slice_of(arena_format(arena, "%" PRIu64, count)) : SLICE("-");
}

static void row_add(struct cli_table *table, struct arena *arena, const struct item *item)
{
    cli_table_row(table, (struct slice[]){
                             item->name,
                             item->state,
                             slice_of(arena_format(arena, "%" PRIu64 "/%" PRIu64, item->ready,
                                                   item->replicas)),
                             rate_words(arena, item->rate),
                             rate_words(arena, item->errors),
                             count_words(arena, item->running),
                             count_words(arena, item->queued),
                             time_words(arena, item->p50_ms),
                             time_words(arena, item->p99_ms),
                             count_words(arena, item->revision),
                             count_words(arena, yyjson_arr_size(item->pops)),
                         });
}

static void pops_add(struct cli_table *table, struct arena *arena, yyjson_val *pops)
{
    size_t index, count;
    yyjson_val *row;
    yyjson_arr_foreach(pops, index, count, row)
    {
        struct item item = item_read(row, "pop");
        item.name = slice_of(arena_format(arena, "  at %.*s", SLICE_FMT(item.name)));
        row_add(table, arena, &item);
    }
}

/* As many as fit when each is cut to its least; the last two are for those with much room. */
static size_t columns_of(int columns)
{
    size_t fit = columns > CELL_COLUMNS ? (size_t)(columns / CELL_COLUMNS) : 1;
    size_t most = columns >= WIDE_COLUMNS ? ORDERS + 2 : ORDERS;
    return fit < most ? fit : most;
}

/* `marked`: the column that it is sorted by says so. */
static void table_print(struct top *top, struct cli *cli, bool marked, FILE *out)
{
    const char *titles[ORDERS + 2];
    size_t count;
    const struct item *items = items_of(top, cli->arena, &count);
    for (size_t i = 0; i < ORDERS; i++)
        titles[i] = marked && i == (size_t)top->order
                        ? arena_format(cli->arena, "%s%s", orders[i].title,
                                       orders[i].most_first != top->reverse ? "\u2193" : "\u2191")
                        : orders[i].title;
    titles[ORDERS] = "REVISION";
    titles[ORDERS + 1] = "POPS";
    struct cli_table *table = cli_table_new(cli, titles, columns_of(cli->columns));
    for (size_t i = top->scroll < count ? top->scroll : 0; i < count; i++) {
        row_add(table, cli->arena, &items[i]);
        if (top->pops)
            pops_add(table, cli->arena, items[i].pops);
    }
    cli_table_print(table, out);
}

static void sums_print(const struct top *top, struct cli *cli, FILE *out)
{
    size_t count;
    const struct item *items = items_of(top, cli->arena, &count);
    struct item sum = {};
    struct slice at = view_text(top->answer, "at");
    for (size_t i = 0; i < count; i++) {
        sum.ready += items[i].ready;
        sum.replicas += items[i].replicas;
        sum.running += items[i].running;
        sum.queued += items[i].queued;
        sum.rate += isnan(items[i].rate) ? 0 : items[i].rate;
        sum.errors += isnan(items[i].errors) ? 0 : items[i].errors;
    }
    uint64_t all = view_number(top->answer, "endpoints");
    char *line = arena_format(
        cli->arena,
        "%.8s  %" PRIu64 " endpoint%s%s, %" PRIu64 "/%" PRIu64 " replicas ready, %.*s req/s, "
        "%" PRIu64 " running, %" PRIu64 " waiting",
        at.size > 19 ? at.data + 11 : "", all, all == 1 ? "" : "s",
        all > count ? " (the busiest are shown)" : "", sum.ready, sum.replicas,
        SLICE_FMT(rate_words(cli->arena, sum.rate)), sum.running, sum.queued);
    cli_wrap(out, slice_of(line), (size_t)cli->columns, 0, 10);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int ask(struct top *top, struct err *err)
{
    struct control_answer answer;
    struct cli inner = *top->cli; /* with an arena that ends with the answer */
    inner.arena = arena_new();
    char *path = arena_format(inner.arena, "/activity?limit=%d", (int)ITEMS_MAX);
    int r =
        control_call(&inner,
                     &CONTROL_REQUEST(.method = "GET", .path = control_project_path(&inner, path),
                                      .timeout_ms = ASK_MS),
                     &answer, err);
    if (r == 0 && !answer.json)
        r = err_set(err, ERR_INTERNAL, "control's answer is no JSON");
    if (r < 0) {
        arena_free(inner.arena);
        return r;
    }
    arena_free(top->arena);
    top->arena = inner.arena;
    top->answer = answer.json;
    top->body = answer.body;
    return 0;
}

/* ---- live ------------------------------------------------------------------------------------ */

static void draw(struct top *top, struct screen *screen)
{
    static const char keys[] = "q quit  p PoPs  arrows scroll  sort: n name  s state  u replicas  "
                               "r rate  e errors  b running  w waiting  m p50  l p99";
    struct cli inner = *top->cli;
    char *text = NULL;
    size_t size = 0;
    int rows;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        mem_abort(0);
    inner.arena = arena_new();
    screen_size(&rows, &inner.columns);
    sums_print(top, &inner, out);
    if (top->error.code) {
        fputs(cli_color(&inner, CLI_RED), out);
        cli_wrap(out, slice_of(top->error.message), (size_t)inner.columns, 0, 0);
        fputs(cli_color(&inner, CLI_PLAIN), out);
    }
    if (rows >= HELP_ROWS) {
        fputs(cli_color(&inner, CLI_DIM), out);
        cli_wrap(out, slice_of(keys), (size_t)inner.columns, 0, 0);
        fprintf(out, "%s\n", cli_color(&inner, CLI_PLAIN));
    }
    table_print(top, &inner, true, out);
    fclose(out);
    (void)screen_draw(screen, (struct slice){ text, size }, rows);
    free(text);
    arena_free(inner.arena);
}

/* False: it is to end. */
static bool on_key(struct top *top, int key)
{
    size_t count = yyjson_arr_size(json_member(top->answer, "items"));
    size_t step = key == SCREEN_PAGE_UP || key == SCREEN_PAGE_DOWN ? 10 : 1;
    if (key == 'q' || key == 'Q')
        return false;
    if (key == SCREEN_UP || key == SCREEN_PAGE_UP)
        top->scroll = top->scroll > step ? top->scroll - step : 0;
    if ((key == SCREEN_DOWN || key == SCREEN_PAGE_DOWN) && top->scroll + step < count)
        top->scroll += step;
    if (key == 'p')
        top->pops = !top->pops;
    for (size_t i = 0; i < ORDERS; i++)
        if (key == orders[i].key) {
            top->reverse = top->order == (enum order)i && !top->reverse;
            top->order = (enum order)i;
            top->scroll = 0;
        }
    return true;
}

/* Returns the signal that ended it, or 0. */
static int watch(struct top *top, struct screen *screen, int64_t every_ms)
{
    int64_t next_ms = loop_now_ns() / 1'000'000 + every_ms;
    for (;;) {
        int64_t now_ms = loop_now_ns() / 1'000'000;
        if (now_ms >= next_ms) {
            top->error = (struct err){};
            (void)!ask(top, &top->error); /* shown, and asked again */
            next_ms = now_ms + every_ms;
        }
        draw(top, screen);
        int64_t wait_ms = next_ms - loop_now_ns() / 1'000'000;
        struct screen_event event = screen_wait(screen, wait_ms > 0 ? (int)wait_ms : 0);
        if (event.kind == SCREEN_END || (event.kind == SCREEN_KEY && !on_key(top, event.key)))
            return event.signal;
    }
}

static int live(struct top *top, int64_t every_ms, struct err *err)
{
    struct screen *screen;
    int r = screen_open(&screen, err);
    if (r < 0)
        return r;
    int number = watch(top, screen, every_ms);
    screen_close(screen);
    if (number) {
        (void)signal(number, SIG_DFL);
        (void)raise(number); /* who waits for us sees what it was */
    }
    return 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int order_read(struct cli *cli, enum order *ret, struct err *err)
{
    const char *told = cli_option_value(cli, "--sort");
    const char *words[ORDERS + 1] = {};
    *ret = BY_RATE;
    for (size_t i = 0; i < ORDERS; i++) {
        words[i] = orders[i].word;
        if (told && strcmp(told, words[i]) == 0)
            *ret = (enum order)i;
    }
    if (!told || strcmp(told, orders[*ret].word) == 0)
        return 0;
    const char *nearest = json_nearest(slice_of(told), words);
    return err_set(err, ERR_BAD_INPUT,
                   "--sort: '%s' is none of name, state, replicas, rate, errors, running, waiting, "
                   "p50 and p99%s%s%s",
                   ERR_TEXT(told), nearest ? "; did you mean " : "", nearest ? nearest : "",
                   nearest ? "?" : "");
}

int cmd_top(struct cli *cli, struct err *err)
{
    struct top top = { .cli = cli, .pops = cli_option_value(cli, "--pops") != NULL };
    const char *every = cli_option_value(cli, "--every");
    uint64_t every_ns = EVERY_MS * UINT64_C(1'000'000);
    if (order_read(cli, &top.order, err) < 0)
        return cli_usage(cli, ERR_BAD_INPUT);
    if (every && units_parse_time(slice_of(every), &every_ns, err) < 0)
        return cli_usage(cli, err_wrap(err, "--every"));
    int64_t every_ms = (int64_t)(every_ns / 1'000'000);
    if (every_ms < EVERY_MS_MIN || every_ms > 3'600'000)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--every is within 200ms to 1h"));
    int r = ask(&top, err);
    if (r == 0 && cli->json)
        cli_print_json(cli, top.answer);
    else if (r == 0 && (cli_option_value(cli, "--once") || !screen_there())) {
        sums_print(&top, cli, stdout);
        putchar('\n');
        table_print(&top, cli, false, stdout);
    } else if (r == 0)
        r = live(&top, every_ms, err);
    arena_free(top.arena);
    return r;
}
