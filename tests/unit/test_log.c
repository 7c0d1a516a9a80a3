/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include <sys/socket.h>
#include <unistd.h>

enum { LINE_MAX = 2048, TIME_BYTES = 24, HEAD_BYTES = TIME_BYTES + 1 + 5 + 1 + 8 + 1 };

struct capture {
    int mine, before;
    char line[4 * LINE_MAX];
};

static void begin(struct capture *capture)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    capture->mine = pair[0];
    capture->before = dup(STDERR_FILENO);
    dup2(pair[1], STDERR_FILENO);
    close(pair[1]);
}

static void end(struct capture *capture)
{
    dup2(capture->before, STDERR_FILENO);
    close(capture->before);
    close(capture->mine);
}

/* What the next write wrote; NULL: there was none. */
static const char *next(struct capture *capture)
{
    ssize_t size = read(capture->mine, capture->line, sizeof capture->line - 1);
    if (size < 0)
        return NULL;
    capture->line[size] = '\0';
    return capture->line;
}

static void test_form(void **state)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    struct capture capture;
    (void)state;
    log_level_set(LOG_INFO);
    begin(&capture);
    log_info("gateway", "request done", LOG_S("request", "7f3a"), LOG_I("status", -200),
             LOG_U("took_ms", UINT64_MAX));
    const char *line = next(&capture);
    assert_non_null(line);
    for (size_t i = 0; shape[i]; i++)
        assert_true(shape[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == shape[i]);
    assert_string_equal(line + TIME_BYTES, " info  gateway  request done request=7f3a status=-200 "
                                           "took_ms=18446744073709551615\n");
    assert_null(next(&capture)); /* it was one write */
    log_warn("pop", "nothing more");
    assert_string_equal(next(&capture) + TIME_BYTES, " warn  pop      nothing more\n");
    log_error("a subsystem of more than thirty-two letters", "lost");
    assert_string_equal(next(&capture) + TIME_BYTES,
                        " error a subsystem of more than thirty- lost\n");
    end(&capture);
}

static void test_fields(void **state)
{
    static const struct {
        const char *value, *shown;
    } rows[] = {
        { "7f3a", "7f3a" },
        { "", "\"\"" },
        { "two words", "\"two words\"" },
        { "a=b", "\"a=b\"" },
        { "say \"no\"", "\"say \\\"no\\\"\"" },
        { "back\\slash", "\"back\\\\slash\"" },
        { "two\nlines\r\t", "\"two\\x0alines\\x0d\\x09\"" },
        { "\x1b[31mred\x7f", "\"\\x1b[31mred\\x7f\"" },
        { "caf\xc3\xa9 \xe2\x82\xac \xc2\xa9", "\"caf\xc3\xa9 \xe2\x82\xac \xc2\xa9\"" },
        { "\xc2\x9b[31m", "\"\\xc2\\x9b[31m\"" }, /* C1: what some terminals take for ESC [ */
        { "\xff\xc3", "\"\\xff\\xc3\"" },
        { "\xed\xa0\x80", "\"\\xed\\xa0\\x80\"" }, /* half of a pair is no character */
    };
    struct capture capture;
    char wanted[256];
    (void)state;
    log_level_set(LOG_INFO);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin(&capture);
        log_info("s", "p", LOG_S("k", rows[i].value), LOG_I("n", INT64_MIN));
        const char *line = next(&capture);
        end(&capture);
        (void)snprintf(wanted, sizeof wanted, "p k=%s n=-9223372036854775808\n", rows[i].shown);
        assert_non_null(line);
        assert_string_equal(line + HEAD_BYTES, wanted);
    }
}

static void test_cutting(void **state)
{
    static char text[4096], escapes[4096];
    struct capture capture;
    (void)state;
    memset(text, 'x', sizeof text);
    memset(escapes, 1, sizeof escapes);
    log_level_set(LOG_INFO);
    begin(&capture);
    log_info("s", "p", LOG_SLICE("k", ((struct slice){ text, sizeof text })), LOG_I("n", 1));
    const char *line = next(&capture);
    assert_non_null(line);
    assert_int_equal(strspn(line + HEAD_BYTES + 4, "x"), 768);
    assert_string_equal(line + HEAD_BYTES + 4 + 768, " n=1\n"); /* what follows is not lost */
    for (int which = 0; which < 2; which++) { /* all that there is room for, in one line */
        struct slice value = { which ? escapes : text, sizeof text };
        log_info("s", "p", LOG_SLICE("a", value), LOG_SLICE("b", value), LOG_SLICE("c", value));
        line = next(&capture);
        assert_non_null(line);
        assert_int_equal(strlen(line), LINE_MAX);
        assert_ptr_equal(strchr(line, '\n'), line + LINE_MAX - 1);
        assert_null(next(&capture));
    }
    memset(text, 'p', 1000);
    text[1000] = '\0';
    log_info("s", text, LOG_I("n", 1));
    line = next(&capture);
    end(&capture);
    assert_non_null(line);
    assert_int_equal(strspn(line + HEAD_BYTES, "p"), 160);
    assert_string_equal(line + HEAD_BYTES + 160, " n=1\n");
}

static void test_levels(void **state)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    enum log_level level = LOG_ERROR;
    struct capture capture;
    (void)state;
    for (int least = LOG_DEBUG; least <= LOG_ERROR; least++) {
        assert_int_equal(log_level_parse(slice_of(names[least]), &level), 0);
        assert_int_equal((int)level, least);
        log_level_set(level);
        assert_int_equal((int)log_level_get(), least);
        begin(&capture);
        for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
            log_write((enum log_level)i, "s", "p", LOG_FIELDS());
            const char *line = next(&capture);
            assert_int_equal(line != NULL, i >= least);
            assert_true(!line || strncmp(line + TIME_BYTES + 1, names[i], strlen(names[i])) == 0);
        }
        end(&capture);
    }
    assert_int_equal(log_level_parse(SLICE("INFO"), &level), -1);
    assert_int_equal(log_level_parse(SLICE(""), &level), -1);
    assert_int_equal((int)level, LOG_ERROR);
    log_level_set(LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
