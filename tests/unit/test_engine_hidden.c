/* SPDX-License-Identifier: Apache-2.0 */
/* An engine's words of an error hold no secret that the container was given. */
#include "replica/engine/hidden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the above */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "io/loop.h"
#include "replica/engine/life.h"

#define CANARY "canary-7f3a"

static const struct {
    const char *name, *values[3], *text, *told;
} rows[] = {
    { "none", {}, "the engine says: no", "the engine says: no" },
    { "not in it", { CANARY }, "no canary here", "no canary here" },
    { "in it", { CANARY }, "bad TOKEN=" CANARY ", sorry", "bad TOKEN=***, sorry" },
    { "twice", { CANARY }, CANARY " and " CANARY, "*** and ***" },
    { "two of them", { CANARY, "other-one" }, "A=" CANARY " B=other-one", "A=*** B=***" },
    { "one begins as the other", { "abcd", "abcdefgh" }, "x abcdefgh", "x ***" },
    { "one lies across the other", { "wxab", "abcd" }, "a wxabcd", "a ***" },
    { "a short one", { "q" }, "quite so", "*uite so" },
    { "nothing is no value", { "" }, "all of it", "all of it" },
    { "cut at the end", { CANARY }, "bad TOKEN=canar", "bad TOKEN=***" },
    { "cut at its beginning", { CANARY }, "bad TOKEN=can", "bad TOKEN=can" },
    { "lines, as they are printed", { "one\ntwo\r\n" }, "is one two  here", "is ***here" },
    { "a line's end, trimmed", { "ab\n" }, "is ab", "is **" },
    { "in quotes", { "a\"b\\c\n" }, "env \"a\\\"b\\\\c\\n\"", "env \"***\"" },
    { "as JSON says it", { "<a&b>" }, "env \\u003ca\\u0026b\\u003E so", "env *** so" },
    { "in plain letters", { "caf\u00e9 \u20ac" }, "caf\\u00e9 \\u20ac!", "***!" },
    { "in two halves", { "a\U0001f600b" }, "is a\\ud83d\\ude00b", "is ***" },
    { "in eight digits", { "a\U0001f600b" }, "is a\\U0001f600b", "is ***" },
    { "control characters", { "a\033b\bc\x01" }, "a\\x1bb\\bc\\001 so", "*** so" },
    { "bytes", { "\u00e9" }, "is \\xc3\\xa9, or \\303\\251", "is ***, or ***" },
    { "another character", { "a caf\u00e9" }, "a caf\\u00e8 a caf\\u00e", "a caf\\u00e8 ***" },
    { "a half", { "ab" }, "\\ud83da\\ud83d\\u0061b", "\\ud83da\\ud83d***" },
    { "no number", { "cafx" }, "caf\\x caf\\u00zz", "*** caf\\u00zz" },
    { "cut within a number", { "caf\u00e9s\u00e9" }, "caf\\u00e9s\\u00", "***" },
    { "cut within two halves", { "abcd\U0001f600" }, "abcd\\ud83d", "***" },
    { "cut behind a backslash", { "abcd\n" }, "abcd\\", "***" },
    { "of blanks alone", { "  " }, "is  so", "is**so" },
};

static void test_what_is_hidden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice values[3];
        size_t count = 0;
        char text[128];
        print_message("  %s\n", rows[i].name);
        while (count < 3 && rows[i].values[count]) {
            values[count] = slice_of(rows[i].values[count]);
            count++;
        }
        struct engine_hidden *hidden = engine_hidden_new(values, count);
        snprintf(text, sizeof text, "%s", rows[i].text);
        engine_hide(hidden, text);
        assert_string_equal(text, rows[i].told);
        engine_hidden_free(hidden);
    }
}

static void test_a_long_text(void **state)
{
    static char text[2 * ENGINE_HIDDEN_TEXT_MAX];
    struct engine_hidden *hidden = engine_hidden_new(&(struct slice){ CANARY, 11 }, 1);
    (void)state;
    memset(text, 'x', sizeof text - 1);
    memcpy(text + ENGINE_HIDDEN_TEXT_MAX - 5, CANARY, 11);
    engine_hide(hidden, text);
    assert_null(strstr(text, "canar"));
    assert_true(strlen(text) <= ENGINE_HIDDEN_TEXT_MAX);
    engine_hidden_free(hidden);
}

/* ---- one that says what it was given --------------------------------------------------------- */

/* All that it was asked for is its error, as far as the value is in there. */
static void *answer(void *data)
{
    static const char body[] = "{\"message\":\"invalid environment: TOKEN=" CANARY "\"}";
    char got[8192] = "", all[512];
    size_t used = 0;
    ssize_t n;
    int fd = accept(*(int *)data, NULL, NULL);
    while (!strstr(got, CANARY) && (n = read(fd, got + used, sizeof got - 1 - used)) > 0)
        used += (size_t)n;
    int size = snprintf(all, sizeof all,
                        "HTTP/1.1 400 Bad Request\r\nContent-Length: %zu\r\nConnection: close\r\n"
                        "\r\n%s",
                        sizeof body - 1, body);
    if (!strstr(got, CANARY) || write(fd, all, (size_t)size) != size)
        abort();
    close(fd);
    return NULL;
}

static void on_running(struct engine_life *, int64_t, int, void *)
{
    fail();
}

static void on_log(struct engine_life *, struct slice, bool, void *)
{
    fail();
}

static void on_dead(struct engine_life *, void *)
{
    fail();
}

static char ended[504];
static void on_gone(struct engine_life *, const struct engine_end *end, void *data)
{
    snprintf(ended, sizeof ended, "%s", end->text);
    loop_stop(data);
}

static void test_the_end_of_one_that_was_not_made(void **state)
{
    static const struct engine_life_events events = { on_running, on_log, on_dead, on_gone };
    static const struct engine_pair env = { SLICE("TOKEN"), SLICE(CANARY) };
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct address address;
    char folder[] = "/tmp/pg-test-hidden-XXXXXX", text[sizeof at.sun_path + 8];
    struct loop *loop = loop_new();
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/socket", folder);
    snprintf(text, sizeof text, "unix:%s", at.sun_path);
    assert_int_equal(0, bind(listener, (struct sockaddr *)&at, sizeof at));
    assert_int_equal(0, listen(listener, 1));
    assert_int_equal(0, address_parse(slice_of(text), &address, NULL));
    assert_int_equal(0, pthread_create(&thread, NULL, answer, &listener));
    struct engine_hidden *hidden = engine_hidden_new(&env.value, 1);
    struct engine *engine = engine_new(loop, NULL, &address);
    const struct engine_container want = {
        .name = SLICE("perigee-shop"), .env = &env, .env_count = 1, .hidden = hidden
    };
    (void)engine_life_begin(engine, loop, &want, &events, loop);
    loop_run(loop);
    assert_string_equal(ended, "the engine says: invalid environment: TOKEN=***");
    pthread_join(thread, NULL);
    engine_free(engine);
    engine_hidden_free(hidden);
    loop_free(loop);
    close(listener);
    unlink(at.sun_path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_hidden),
        cmocka_unit_test(test_a_long_text),
        cmocka_unit_test(test_the_end_of_one_that_was_not_made),
    };
    return cmocka_run_group_tests_name("engine_hidden", tests, NULL, NULL);
}
