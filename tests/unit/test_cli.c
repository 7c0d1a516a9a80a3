/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's parser, help, tables, and its reader of server-sent events. */
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"

/* ---- parsing: a command of ours says what it got -------------------------------------------- */

static char got[512];

static int probe_run(struct cli *cli, struct err *err)
{
    FILE *out = fmemopen(got, sizeof got, "w");
    uint64_t number = 0;
    if (!cli_option_u64(cli, "--number", &number, err)) {
        fclose(out);
        return cli_usage(cli, ERR_BAD_INPUT);
    }
    for (size_t i = 0; i < cli->argument_count; i++)
        fprintf(out, "<%s>", cli->arguments[i]);
    const char *value;
    for (size_t i = 0; (value = cli_option_nth(cli, "--many", i)); i++)
        fprintf(out, " many=%s", value);
    if (cli_option_value(cli, "--one"))
        fprintf(out, " one=%s", cli_option_value(cli, "--one"));
    if (cli_option_value(cli, "--switch"))
        fprintf(out, " switch");
    if (number)
        fprintf(out, " number=%llu", (unsigned long long)number);
    fprintf(out, "%s%s", cli->json ? " json" : "",
            strcmp(cli->project, "default") == 0 ? "" : " project");
    fclose(out);
    return cli_option_value(cli, "--fail") ? err_set(err, ERR_INTERNAL, "as asked") : 0;
}

static const struct cli_option probe_options[] = {
    { "--many", "X", "Many.", true },
    { "--one", "X", "One.", false },
    { "--switch", NULL, "Switch.", false },
    { "--number", "N", "Number.", false },
    { "--fail", NULL, "Fail.", false },
    { "--labels", "K=V", "Labels.", false },
    {},
};

static const struct cli_command probes[] = {
    { "probe", NULL, "FILE [FILE...]", "A probe.", probe_options, NULL, 1, 3, probe_run },
    { "named", "called", "NAME", "A probe with a name.", NULL, NULL, 1, 1, probe_run },
};

static const struct {
    const char *words[8];
    int exit_code;
    const char *wanted;
} parse_rows[] = {
    { { "probe", "a" }, 0, "<a>" },
    { { "probe", "a", "b", "c" }, 0, "<a><b><c>" },
    { { "probe", "--one", "1", "a" }, 0, "<a> one=1" },
    { { "probe", "--one=1", "a" }, 0, "<a> one=1" },
    { { "probe", "a", "--one=" }, 0, "<a> one=" },
    { { "probe", "a", "--one", "--switch" }, 0, "<a> one=--switch" },
    { { "probe", "--many", "1", "a", "--many=2" }, 0, "<a> many=1 many=2" },
    { { "probe", "--switch", "a" }, 0, "<a> switch" },
    { { "probe", "--", "--switch" }, 0, "<--switch>" },
    { { "probe", "-" }, 0, "<->" },
    { { "probe", "a", "--number", "42" }, 0, "<a> number=42" },
    { { "probe", "a", "--json", "--project", "team" }, 0, "<a> json project" },
    { { "called", "abc" }, 0, "<abc>" },
    { { "probe", "a", "--fail" }, 1, "<a>" },
    { { "probe" }, 2, NULL },
    { { "probe", "a", "b", "c", "d" }, 2, NULL },
    { { "probe", "a", "--one" }, 2, NULL },
    { { "probe", "a", "--one", "1", "--one", "2" }, 2, NULL },
    { { "probe", "a", "--switch=1" }, 2, NULL },
    { { "probe", "a", "--swich" }, 2, NULL },
    { { "probe", "a", "-x" }, 2, NULL },
    { { "probe", "a", "--number", "4x" }, 2, NULL },
    { { "probe", "a", "--number", "-1" }, 2, NULL },
    { { "probe", "a", "--number", "18446744073709551616" }, 2, NULL },
    { { "probe", "a", "--project", "No_Such" }, 2, NULL },
    { { "probe", "a", "--project", "../x" }, 2, NULL },
    { { "named", "" }, 2, NULL },
    { { "named", "ab" }, 2, NULL },
    { { "named", "a-name-that-has-more-than-forty-characters" }, 2, NULL },
    { { "named", "api" }, 2, NULL },
    { { "named", "Capital" }, 2, NULL },
    { { "named", "two--hyphens" }, 2, NULL },
    { { "named", "../../etc" }, 2, NULL },
    { { "named", "a\x1b[31mb" }, 2, NULL },
    { { "prob" }, 2, NULL },
    { { "help", "nosuch" }, 2, NULL },
};

/* What is printed is not of interest here. */
static int silently(int argc, char **argv)
{
    fflush(NULL);
    int out = dup(1), err = dup(2);
    FILE *null = freopen("/dev/null", "w", stderr);
    assert_non_null(null);
    int code = cli_main(argc, argv, probes, 2);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    return code;
}

static void test_parse(void **state)
{
    (void)state;
    unsetenv("PERIGEE_PROJECT");
    for (size_t i = 0; i < sizeof parse_rows / sizeof *parse_rows; i++) {
        char words[9][64] = { "perigee" }, *argv[10] = { words[0] };
        int argc = 1;
        print_message("  ");
        for (; parse_rows[i].words[argc - 1]; argc++) {
            snprintf(words[argc], sizeof words[argc], "%s", parse_rows[i].words[argc - 1]);
            argv[argc] = words[argc];
            print_message("%s ", strchr(words[argc], '\x1b') ? "(escape)" : words[argc]);
        }
        print_message("\n");
        got[0] = '\0';
        assert_int_equal(silently(argc, argv), parse_rows[i].exit_code);
        if (parse_rows[i].wanted)
            assert_string_equal(got, parse_rows[i].wanted);
    }
}

static void test_too_many_words(void **state)
{
    char name[] = "perigee", command[] = "probe", word[] = "a", option[] = "--many=1";
    char *argv[CLI_VALUES_MAX + 4] = { name, command, word };
    (void)state;
    for (int i = 3; i < CLI_VALUES_MAX + 4; i++)
        argv[i] = option;
    assert_int_equal(silently(CLI_VALUES_MAX + 3, argv), 0);
    assert_int_equal(silently(CLI_VALUES_MAX + 4, argv), 2);
    for (int i = 3; i < CLI_VALUES_MAX + 4; i++)
        argv[i] = word;
    assert_int_equal(silently(CLI_VALUES_MAX + 4, argv), 2);
}

/* ---- what is printed fits ------------------------------------------------------------------- */

static size_t columns_of(const char *line, size_t bytes)
{
    size_t columns = 0;
    for (size_t i = 0; i < bytes; i++)
        columns += ((unsigned char)line[i] & 0xc0) != 0x80;
    return columns;
}

static void assert_fits(const char *text, size_t bound)
{
    for (const char *at = text; *at;) {
        size_t bytes = strcspn(at, "\n");
        if (columns_of(at, bytes) > bound)
            fail_msg("%zu columns: %.*s", columns_of(at, bytes), (int)bytes, at);
        at += bytes + (at[bytes] == '\n');
    }
}

static void test_help_fits(void **state)
{
    const struct cli cli = { .extra = probes, .extra_count = 2 };
    (void)state;
    for (size_t i = 0; i <= cli_command_count; i++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        cli_help(out, &cli, i < cli_command_count ? &cli_commands[i] : NULL);
        fclose(out);
        assert_fits(text, 80);
        free(text);
    }
}

static void test_rows_are_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        print_message("  %s\n", command->name);
        assert_non_null(command->run);
        assert_non_null(command->examples);
        assert_true(command->summary[strlen(command->summary) - 1] == '.');
        assert_true(command->arguments_min <= command->arguments_max);
        assert_int_equal(command->arguments_max > 0, command->arguments[0] != '\0');
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(command->name, cli_commands[k].name);
            if (cli_commands[k].alias)
                assert_string_not_equal(command->name, cli_commands[k].alias);
        }
        for (size_t k = 0; cli_reserved[k]; k++) /* what has come is reserved no more */
            assert_string_not_equal(command->name, cli_reserved[k]);
    }
}

static const struct {
    const char *name, *text, *wanted;
    size_t at, indent;
} wrap_rows[] = {
    { "fits", "one two", "one two\n", 0, 0 },
    { "to the last column", "one two six seven 20", "one two six seven 20\n", 0, 0 },
    { "one more does not", "one two six seven 201", "one two six seven\n201\n", 0, 0 },
    { "begins further right", "one two six", "one two\n  six\n", 12, 2 },
    { "a word that fits nowhere stays whole", "a bbbbbbbbbbbbbbbbbbbbbbbbb c",
      "a\n bbbbbbbbbbbbbbbbbbbbbbbbb\n c\n", 0, 1 },
    { "characters count, not bytes", "öööööö öööööö öööööö", "öööööö öööööö öööööö\n", 0, 0 },
    { "blanks at the ends and several", "  one   two ", "one two\n", 0, 0 },
    { "nothing", "", "\n", 0, 0 },
};

static void test_wrap(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrap_rows / sizeof *wrap_rows; i++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        print_message("  %s\n", wrap_rows[i].name);
        cli_wrap(out, slice_of(wrap_rows[i].text), 20, wrap_rows[i].at, wrap_rows[i].indent);
        fclose(out);
        assert_string_equal(text, wrap_rows[i].wanted);
        free(text);
    }
}

static const struct {
    const char *name, *cells[3], *wanted;
    int columns;
    bool wrap;
} table_rows[] = {
    { "as wide as needed", { "a", "bb", "ccc" }, "A  B   C\na  bb  ccc\n", 80 },
    { "the last gives way first",
      { "aaaaaaaaaaaaaaaa", "b", "cccccccccccccc" },
      "A                 B  C\naaaaaaaaaaaaaaaa  b  cccccccc…\n",
      30 },
    { "then the widest",
      { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b", "c" },
      "A                           B  C\naaaaaaaaaaaaaaaaaaaaaaaaa…  b  c\n",
      32 },
    { "characters count, not bytes", { "äöü", "b", "c" }, "A    B  C\näöü  b  c\n", 80 },
    { "what is no text is escaped",
      { "a\x1b[31m", "\xff", "c" },
      "A          B     C\na\\x1b[31m  \\xff  c\n",
      80 },
    { "nothing", { "", "", "" }, "A  B  C\n      \n", 80 },
    { "words are wrapped",
      { "aaaaaaaa", "b", "one two three four" },
      "A         B  C\naaaaaaaa  b  one two\n             three four\n",
      24,
      true },
    { "and those that fit stay as they are",
      { "aaaaaaaa", "b", "one  two" },
      "A         B  C\naaaaaaaa  b  one  two\n",
      24,
      true },
    { "a word that fits nowhere is cut",
      { "aaaaaaaa", "b", "one cccccccccccccc two" },
      "A         B  C\naaaaaaaa  b  one\n             cccccccccc…\n             two\n",
      24,
      true },
    { "names give way before words are too narrow",
      { "aaaaaaaaaaaaaaaa", "b", "residency says no" },
      "A         B  C\naaaaaaa…  b  residency\n             says no\n",
      22,
      true },
    { "nothing is wrapped", { "", "", "" }, "A  B  C\n      \n", 80, true },
};

static void test_tables(void **state)
{
    static const char *const titles[] = { "A", "B", "C" };
    (void)state;
    for (size_t i = 0; i < sizeof table_rows / sizeof *table_rows; i++) {
        struct cli cli = { .arena = arena_new(), .columns = table_rows[i].columns };
        struct cli_table *table = cli_table_new(&cli, titles, 3);
        if (table_rows[i].wrap)
            cli_table_wrap(table);
        struct slice cells[3];
        char *text;
        size_t size;
        print_message("  %s\n", table_rows[i].name);
        for (size_t c = 0; c < 3; c++)
            cells[c] = slice_of(table_rows[i].cells[c]);
        cli_table_row(table, cells);
        FILE *out = open_memstream(&text, &size);
        cli_table_print(table, out);
        fclose(out);
        assert_string_equal(text, table_rows[i].wanted);
        assert_fits(text, (size_t)table_rows[i].columns);
        free(text);
        arena_free(cli.arena);
    }
}

static void test_a_full_table_fits(void **state)
{
    static const char *const titles[] = { "NAME",     "STATE",   "REVISION",
                                          "REPLICAS", "UPDATED", "MESSAGE" };
    struct cli cli = { .arena = arena_new(), .columns = 80 };
    struct cli_table *table = cli_table_new(&cli, titles, 6);
    char wide[600], *text;
    size_t size;
    (void)state;
    memset(wide, 'x', sizeof wide);
    struct slice cell = { wide, sizeof wide };
    cli_table_row(table, (struct slice[]){ cell, cell, cell, cell, cell, cell });
    FILE *out = open_memstream(&text, &size);
    cli_table_print(table, out);
    fclose(out);
    assert_fits(text, 80);
    free(text);
    arena_free(cli.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_too_many_words),
        cmocka_unit_test(test_help_fits),
        cmocka_unit_test(test_rows_are_whole),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_a_full_table_fits),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
