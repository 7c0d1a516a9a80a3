/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
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
    const char *name, *text;
    int count; /* -1: refused */
    const char *first;
    bool loopback;
} rows[] = {
    { "an address", "127.0.0.1:8000", 1, "127.0.0.1:8000", true },
    { "all of 127/8 is loopback", "127.9.8.7:1", 1, "127.9.8.7:1", true },
    { "every address is not", "0.0.0.0:80", 1, "0.0.0.0:80", false },
    { "six", "[::1]:8000", 1, "[::1]:8000", true },
    { "six, long form", "[0:0:0:0:0:0:0:1]:8000", 1, "[::1]:8000", true },
    { "six, every address", "[::]:8000", 1, "[::]:8000", false },
    { "four in six", "[::ffff:127.0.0.1]:8000", 1, "[::ffff:127.0.0.1]:8000", true },
    { "a socket", "unix:/tmp/x.sock", 1, "unix:/tmp/x.sock", true },
    { "several", "127.0.0.1:8000, [::1]:8001,unix:/x", 3, "127.0.0.1:8000", true },
    { "none", "none", 0, NULL, false },
    { "any port", "127.0.0.1:0", 1, "127.0.0.1:0", true },
    { "nothing", "", -1, NULL, false },
    { "a port alone", "8000", -1, NULL, false },
    { "an empty address", ":8000", -1, NULL, false },
    { "a name", "localhost:8000", -1, NULL, false },
    { "no port", "127.0.0.1", -1, NULL, false },
    { "an empty port", "127.0.0.1:", -1, NULL, false },
    { "a high port", "127.0.0.1:65536", -1, NULL, false },
    { "a long port", "127.0.0.1:080000", -1, NULL, false },
    { "a signed port", "127.0.0.1:+80", -1, NULL, false },
    { "a negative port", "127.0.0.1:-1", -1, NULL, false },
    { "three numbers", "127.0.1:80", -1, NULL, false },
    { "six without brackets", "::1:8000", -1, NULL, false },
    { "half a bracket", "[::1:8000", -1, NULL, false },
    { "an empty bracket", "[]:8000", -1, NULL, false },
    { "a comma too many", "127.0.0.1:80,", -1, NULL, false },
    { "none and more", "none,127.0.0.1:80", -1, NULL, false },
    { "no path", "unix:", -1, NULL, false },
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct listen_address addresses[LISTEN_ADDRESSES_MAX];
        struct err err = {};
        size_t count = 99;
        print_message("  %s\n", rows[i].name);
        int r = listen_parse("--listen-x", rows[i].text, addresses, &count, &err);
        if (rows[i].count < 0) {
            assert_int_equal(r, ERR_BAD_INPUT);
            assert_non_null(strstr(err.message, "--listen-x"));
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(count, rows[i].count);
        if (count) {
            assert_string_equal(addresses[0].text, rows[i].first);
            assert_int_equal(listen_loopback(&addresses[0]), rows[i].loopback);
        }
    }
}

static struct listen_address parse(const char *text)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    size_t count;
    struct err err;
    assert_int_equal(listen_parse("--listen-x", text, addresses, &count, &err), 0);
    return addresses[0];
}

static void test_too_many(void **state)
{
    (void)state;
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    char text[1024] = "127.0.0.1:1", path[200];
    size_t count;
    struct err err;
    for (int i = 0; i < LISTEN_ADDRESSES_MAX; i++)
        strcat(text, ",127.0.0.1:1");
    assert_int_equal(listen_parse("--x", text, addresses, &count, &err), ERR_BAD_INPUT);
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    memcpy(path, "unix:/", 6);
    assert_int_equal(listen_parse("--x", path, addresses, &count, &err), ERR_BAD_INPUT);
}

static void test_a_set_shares_one_port_with_nobody(void **state)
{
    (void)state;
    struct listen_address address = parse("127.0.0.1:0");
    struct listen_set set, other;
    struct err err = {};
    assert_int_equal(listen_open("--listen-x", &address, 3, &set, &err), 0);
    assert_int_equal(set.count, 3);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in bound;
        socklen_t size = sizeof bound;
        assert_int_equal(getsockname(set.fds[i], (struct sockaddr *)&bound, &size), 0);
        char text[64];
        (void)snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(bound.sin_port));
        assert_string_equal(text, set.text);
    }
    /* The same once more, as a second `perigee up` would. */
    struct listen_address taken = parse(set.text);
    assert_int_equal(listen_open("--listen-x", &taken, 3, &other, &err), ERR_CONFLICT);
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "process %d (", (int)getpid());
    assert_non_null(strstr(err.message, wanted));
    assert_non_null(strstr(err.message, "--listen-x (or $PERIGEE_LISTEN_X) moves it"));
    listen_close(&set);
    assert_int_equal(listen_open("--listen-x", &taken, 1, &other, &err), 0);
    listen_close(&other);
}

/* TCP and UDP of one port; taken is taken, whichever of the two it is. */
static void test_the_two_of_dns(void **state)
{
    (void)state;
    struct listen_address address = parse("127.0.0.1:0"), file = parse("unix:/nonexistent/s");
    struct listen_set set, other;
    struct err err = {};
    assert_int_equal(listen_open_dns("--listen-x", &file, &set, &err), ERR_BAD_INPUT);
    assert_int_equal(listen_open_dns("--listen-x", &address, &set, &err), 0);
    assert_int_equal(set.count, 2);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in bound;
        int type;
        socklen_t size = sizeof bound, type_size = sizeof type;
        assert_int_equal(getsockname(set.fds[i], (struct sockaddr *)&bound, &size), 0);
        assert_int_equal(getsockopt(set.fds[i], SOL_SOCKET, SO_TYPE, &type, &type_size), 0);
        assert_int_equal(type, i == 0 ? SOCK_STREAM : SOCK_DGRAM);
        char text[64];
        (void)snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(bound.sin_port));
        assert_string_equal(text, set.text);
    }
    struct listen_address taken = parse(set.text);
    for (int i = 0; i < 2; i++) {
        char wanted[64];
        assert_int_equal(listen_open_dns("--listen-x", &taken, &other, &err), ERR_CONFLICT);
        (void)snprintf(wanted, sizeof wanted, "process %d (", (int)getpid());
        assert_non_null(strstr(err.message, wanted));
        assert_int_equal(strstr(err.message, "(UDP)") != NULL, i == 1);
        fd_close(&set.fds[0]); /* UDP alone has it now */
    }
    listen_close(&set);
    assert_int_equal(listen_open_dns("--listen-x", &taken, &other, &err), 0);
    listen_close(&other);
}

static void test_a_socket_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_listen.XXXXXX", path[64], text[80];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/s", folder);
    (void)snprintf(text, sizeof text, "unix:%s", path);
    struct listen_address address = parse(text);
    struct listen_set set, other;
    struct err err = {};
    struct stat st;
    assert_int_equal(listen_open("--x", &address, 4, &set, &err), 0);
    assert_int_equal(set.count, 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(listen_open("--x", &address, 1, &other, &err), ERR_CONFLICT); /* in use */
    fd_close(&set.fds[0]); /* as if killed: the file stays */
    assert_int_equal(listen_open("--x", &address, 1, &other, &err), 0);
    listen_close(&other);
    assert_int_equal(stat(path, &st), -1);
    /* What is no socket is never removed. */
    auto_close int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(listen_open("--x", &address, 1, &other, &err), ERR_CONFLICT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_a_set_shares_one_port_with_nobody),
        cmocka_unit_test(test_the_two_of_dns),
        cmocka_unit_test(test_a_socket_file),
    };
    return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
