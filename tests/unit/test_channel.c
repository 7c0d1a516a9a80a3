/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/channel.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "sys/fd.h"

static void pair(struct channel *ends[2])
{
    int fds[2];
    struct err err;
    assert_int_equal(channel_pair(fds, &err), 0);
    ends[0] = channel_new(fds[0]);
    ends[1] = channel_new(fds[1]);
}

static int receive(struct channel *end, char *buffer, size_t room, size_t *size, int *fds,
                   size_t *fd_count, struct err *err)
{
    return channel_receive(end, buffer, room, size, fds, fd_count, err);
}

static void test_descriptors_travel(void **state)
{
    (void)state;
    struct channel *ends[2];
    struct err err;
    char buffer[64];
    size_t size, count;
    int fds[CHANNEL_FDS_MAX], pipes[2];
    pair(ends);
    assert_int_equal(receive(ends[1], buffer, sizeof buffer, &size, fds, &count, &err), 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(channel_send(ends[0], "hello", 5, pipes, 2, &err), 0);
    assert_int_equal(receive(ends[1], buffer, sizeof buffer, &size, fds, &count, &err), 1);
    assert_int_equal(size, 5);
    assert_memory_equal(buffer, "hello", 5);
    assert_int_equal(count, 2);
    assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(read(pipes[0], buffer, 1), 1);
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(pipes[i]);
    }
    channel_free(ends[0]);
    assert_int_equal(receive(ends[1], buffer, sizeof buffer, &size, fds, &count, &err),
                     ERR_CANCELED);
    assert_int_equal(channel_send(ends[1], "x", 1, NULL, 0, &err), ERR_CANCELED);
    channel_free(ends[1]);
}

static void test_a_cut_message_is_refused(void **state)
{
    (void)state;
    struct channel *ends[2];
    struct err err;
    char buffer[4];
    size_t size, count;
    int fds[CHANNEL_FDS_MAX], zero = STDIN_FILENO;
    pair(ends);
    int before = dup(zero);
    assert_int_equal(channel_send(ends[0], "longer", 6, &before, 1, &err), 0);
    assert_int_equal(receive(ends[1], buffer, sizeof buffer, &size, fds, &count, &err),
                     ERR_BAD_INPUT);
    int after = dup(zero);
    assert_int_equal(after, before + 1); /* its descriptor did not stay */
    close(before);
    close(after);
    channel_free(ends[0]);
    channel_free(ends[1]);
}

static void test_a_peer_that_does_not_read(void **state)
{
    (void)state;
    enum { BYTES = 32 * 1024 };
    static char data[BYTES], buffer[BYTES];
    struct channel *ends[2];
    struct err err;
    size_t size, count;
    uint32_t sent = 0, got = 0;
    int fds[CHANNEL_FDS_MAX], r;
    pair(ends);
    for (;; sent++) {
        memcpy(data, &sent, sizeof sent);
        r = channel_send(ends[0], data, BYTES, NULL, 0, &err);
        if (r < 0)
            break;
    }
    assert_int_equal(r, ERR_OVERLOADED);
    assert_true(channel_wants_write(ends[0]));
    assert_in_range(sent, 4 * 1024 * 1024 / BYTES, 6 * 1024 * 1024 / BYTES);
    while (got < sent) { /* all, in order */
        r = receive(ends[1], buffer, BYTES, &size, fds, &count, &err);
        assert_true(r >= 0);
        if (r == 0) {
            assert_int_equal(channel_flush(ends[0], &err), 0);
            continue;
        }
        uint32_t number;
        memcpy(&number, buffer, sizeof number);
        assert_int_equal(number, got++);
    }
    assert_false(channel_wants_write(ends[0]));
    channel_free(ends[0]);
    channel_free(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors_travel),
        cmocka_unit_test(test_a_cut_message_is_refused),
        cmocka_unit_test(test_a_peer_that_does_not_read),
    };
    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
