/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"

void cli_print_text(FILE *out, struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        size_t length = utf8_length((struct slice){ text.data + i, text.size - i });
        unsigned char c = (unsigned char)text.data[i];
        bool control = c < 0x20 || c == 0x7f ||
                       (c == 0xc2 && length == 2 && (unsigned char)text.data[i + 1] < 0xa0);
        if (length == 0 || control) {
            fprintf(out, "\\x%02x", c);
            i++;
        } else {
            fwrite(text.data + i, 1, length, out);
            i += length;
        }
    }
}

const char *cli_color(const struct cli *cli, enum cli_color color)
{
    static const char *const codes[] = { "\x1b[0m",  "\x1b[32m", "\x1b[33m",
                                         "\x1b[31m", "\x1b[2m",  "\x1b[1m" };
    return cli->color ? codes[color] : "";
}

void cli_print_json(struct cli *cli, yyjson_val *value)
{
    struct arena *arena = arena_new(); /* of its own: --follow prints for days */
    struct slice text = json_print(arena, value, cli->terminal ? JSON_PRETTY : 0);
    fwrite(text.data, 1, text.size, stdout);
    fputc('\n', stdout);
    arena_free(arena);
}

int cli_print_written(struct cli *cli, struct json_writer *writer)
{
    yyjson_val *value;
    struct err fault;
    int r = json_parse(cli->arena, json_end(writer), NULL, &value, &fault);
    assert(r == 0); /* it is ours */
    cli_print_json(cli, value);
    return 0;
}

/* ---- wrapped text ---------------------------------------------------------------------------- */

/* Characters, not bytes: one each, which is right for all but wide scripts. */
static size_t width_of(struct slice text)
{
    size_t width = 0;
    for (size_t i = 0; i < text.size; width++) {
        size_t length = utf8_length((struct slice){ text.data + i, text.size - i });
        i += length ? length : 1;
    }
    return width;
}

static struct slice printable(struct arena *arena, struct slice text)
{
    char *data;
    size_t size;
    FILE *memory = open_memstream(&data, &size);
    if (!memory)
        mem_abort(0);
    cli_print_text(memory, text);
    fclose(memory);
    struct slice copy = arena_copy(arena, (struct slice){ data, size });
    free(data);
    return copy;
}

/* At most so many characters of it; returns how many. */
static size_t cut_print(FILE *out, struct slice text, size_t width)
{
    size_t shown = 0, i = 0, whole = width_of(text);
    for (; i < text.size && shown < width; shown++) {
        size_t length = utf8_length((struct slice){ text.data + i, text.size - i });
        if (whole > width && shown + 1 == width) {
            fputs("…", out);
            return width;
        }
        fwrite(text.data + i, 1, length ? length : 1, out);
        i += length ? length : 1;
    }
    return shown;
}

/* `whole`: a word that is longer than a line is not cut. Does not end the last line. */
static void words_print(FILE *out, struct slice text, size_t columns, size_t at, size_t indent,
                        bool whole)
{
    bool first = true; /* of its line */
    while (text.size) {
        struct slice word = slice_cut(&text, ' ');
        size_t width = width_of(word);
        if (width == 0)
            continue;
        if (!first && at + 1 + width > columns) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
            first = true;
        }
        fputs(first ? "" : " ", out);
        at += !first + cut_print(out, word, whole ? width : columns - indent);
        first = false;
    }
}

void cli_wrap(FILE *out, struct slice text, size_t columns, size_t at, size_t indent)
{
    words_print(out, text, columns, at, indent, true);
    fputc('\n', out);
}

void cli_print_wrapped(struct cli *cli, FILE *out, struct slice text, size_t at, size_t indent)
{
    cli_wrap(out, printable(cli->arena, text), (size_t)cli->columns, at, indent);
}

/* ---- tables ---------------------------------------------------------------------------------- */

enum {
    TABLE_COLUMNS_MAX = 12,
    TABLE_GAP = 2,
    TABLE_CELL_MIN = 6,
    TABLE_WORDS_MIN = 9, /* of one that is wrapped: most words are whole */
};

struct row {
    struct row *next;
    struct slice cells[TABLE_COLUMNS_MAX];
};

struct cli_table {
    struct cli *cli;
    size_t columns;
    bool wrapped; /* the last column */
    struct row *first, **last;
};

void cli_table_wrap(struct cli_table *table)
{
    table->wrapped = true;
}

void cli_table_row(struct cli_table *table, const struct slice *cells)
{
    struct row *row = ARENA_NEW(table->cli->arena, struct row);
    for (size_t i = 0; i < table->columns; i++)
        row->cells[i] = printable(table->cli->arena, cells[i]);
    *table->last = row;
    table->last = &row->next;
}

struct cli_table *cli_table_new(struct cli *cli, const char *const *titles, size_t columns)
{
    struct cli_table *table = ARENA_NEW(cli->arena, struct cli_table);
    struct slice cells[TABLE_COLUMNS_MAX] = {};
    table->cli = cli;
    table->columns = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX;
    table->last = &table->first;
    for (size_t i = 0; i < table->columns; i++)
        cells[i] = slice_of(titles[i]);
    cli_table_row(table, cells);
    return table;
}

/* The last column gives way until the whole fits, as it holds words and the others names, which are
 * copied; then the widest does. */
static void widths_fit(const struct cli_table *table, size_t *widths)
{
    for (const struct row *row = table->first; row; row = row->next)
        for (size_t i = 0; i < table->columns; i++) {
            size_t width = width_of(row->cells[i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    size_t least = table->wrapped ? TABLE_WORDS_MIN : TABLE_CELL_MIN;
    for (;;) {
        size_t all = TABLE_GAP * (table->columns - 1), widest = 0, last = table->columns - 1;
        for (size_t i = 0; i < table->columns; i++) {
            all += widths[i];
            widest = i < last && widths[i] > widths[widest] ? i : widest;
        }
        if (widths[last] > least || widths[widest] <= TABLE_CELL_MIN)
            widest = last;
        if (all <= (size_t)table->cli->columns || widths[widest] <= TABLE_CELL_MIN)
            return;
        widths[widest]--;
    }
}

static void row_print(const struct cli_table *table, const struct row *row, const size_t *widths,
                      FILE *out)
{
    size_t at = 0, last = table->columns - 1;
    for (size_t i = 0; i < last; i++) {
        size_t shown = cut_print(out, row->cells[i], widths[i]);
        fprintf(out, "%*s", (int)(widths[i] - shown + TABLE_GAP), "");
        at += widths[i] + TABLE_GAP;
    }
    if (!table->wrapped || width_of(row->cells[last]) <= widths[last])
        (void)cut_print(out, row->cells[last], widths[last]);
    else
        words_print(out, row->cells[last], at + widths[last], at, at, false);
}

void cli_table_print(struct cli_table *table, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = {};
    widths_fit(table, widths);
    for (const struct row *row = table->first; row; row = row->next) {
        if (row == table->first)
            fputs(cli_color(table->cli, CLI_DIM), out);
        row_print(table, row, widths, out);
        if (row == table->first)
            fputs(cli_color(table->cli, CLI_PLAIN), out);
        fputc('\n', out);
    }
}

const char *cli_ago(struct cli *cli, struct slice rfc3339)
{
    struct tm utc = {};
    char text[40] = "";
    if (rfc3339.size == 0 || rfc3339.size >= sizeof text)
        return "-";
    memcpy(text, rfc3339.data, rfc3339.size);
    if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &utc))
        return "-";
    int64_t seconds = (int64_t)time(NULL) - (int64_t)timegm(&utc);
    if (seconds < 0)
        seconds = 0;
    if (seconds < 120)
        return arena_format(cli->arena, "%" PRId64 "s", seconds);
    if (seconds < 7200)
        return arena_format(cli->arena, "%" PRId64 "m", seconds / 60);
    if (seconds < 48 * 3600)
        return arena_format(cli->arena, "%" PRId64 "h", seconds / 3600);
    return arena_format(cli->arena, "%" PRId64 "d", seconds / 86400);
}
