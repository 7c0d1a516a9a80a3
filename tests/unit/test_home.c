/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/home.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "sys/fd.h"

static const struct {
    const char *name, *flag, *home, *data, *user, *wanted; /* NULL wanted: refused */
} rows[] = {
    { "the flag first", "/a", "/b", "/c", "/d", "/a" },
    { "then the variable", NULL, "/b", "/c", "/d", "/b" },
    { "then XDG's folder", NULL, NULL, "/c", "/d", "/c/perigee" },
    { "then the user's", NULL, NULL, NULL, "/d", "/d/.local/share/perigee" },
    { "empty variables are none", NULL, "", "", "/d", "/d/.local/share/perigee" },
    { "XDG's relative ones are none", NULL, NULL, "c", "/d", "/d/.local/share/perigee" },
    { "slashes at the end go", "/a//", NULL, NULL, "/d", "/a" },
    { "a relative one is below here", "x", NULL, NULL, "/d", "/tmp/x" },
    { "an empty flag", "", NULL, NULL, "/d", NULL },
    { "too long for the sockets in it",
      "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      "aaa",
      NULL, NULL, "/d", NULL },
};

static void set(const char *name, const char *value)
{
    if (value)
        (void)setenv(name, value, 1);
    else
        (void)unsetenv(name);
}

static void test_resolve(void **state)
{
    (void)state;
    assert_int_equal(chdir("/tmp"), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[HOME_PATH_BYTES];
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        set("PERIGEE_HOME", rows[i].home);
        set("XDG_DATA_HOME", rows[i].data);
        set("HOME", rows[i].user);
        int r = home_resolve(rows[i].flag, path, &err);
        assert_int_equal(r, rows[i].wanted ? 0 : ERR_BAD_INPUT);
        if (rows[i].wanted)
            assert_string_equal(path, rows[i].wanted);
        else
            assert_non_null(
                strstr(err.message, *rows[i].flag ? "choose a shorter" : "--home wants"));
    }
}

static void test_make_and_lock(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_home.XXXXXX", home[64], file[96], wanted[32];
    struct err err = {};
    struct stat st;
    int first = -1, second = -1;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(home, sizeof home, "%s/a/b", folder);
    assert_int_equal(home_make(home, &err), 0);
    assert_int_equal(home_make(home, &err), 0); /* again is harmless */
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(chmod(home, 0755), 0);
    assert_int_equal(home_make(home, &err), 0); /* closed again */
    assert_int_equal(stat(home, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);

    assert_int_equal(home_lock(home, &first, &err), 0);
    assert_int_equal(home_lock(home, &second, &err), ERR_CONFLICT);
    (void)snprintf(wanted, sizeof wanted, "process %d", (int)getpid());
    assert_non_null(strstr(err.message, wanted));
    fd_close(&first);
    assert_int_equal(home_lock(home, &second, &err), 0);
    fd_close(&second);

    /* A home that cannot be is refused in words that say what to do. */
    (void)snprintf(file, sizeof file, "%s/lock", home);
    assert_int_equal(home_make(file, &err), ERR_INTERNAL);
    assert_non_null(strstr(err.message, "choose another with --home"));
    assert_int_equal(home_make("/proc/none/home", &err), ERR_INTERNAL);
    if (geteuid() != 0) {
        assert_int_equal(home_make("/root-has-this", &err), ERR_FORBIDDEN);
        assert_non_null(strstr(err.message, "choose another with --home"));
    }
    assert_int_equal(unlink(file), 0);
    (void)snprintf(file, sizeof file, "%s/run", home);
    assert_int_equal(rmdir(file), 0);
    assert_int_equal(rmdir(home), 0);
    (void)snprintf(file, sizeof file, "%s/a", folder);
    assert_int_equal(rmdir(file), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_make_and_lock),
    };
    return cmocka_run_group_tests_name("home", tests, NULL, NULL);
}
