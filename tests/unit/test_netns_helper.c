/* SPDX-License-Identifier: Apache-2.0 */
/* The helper that enters networks, in this process: what it is asked before it was told all, and
 * what it lacks descriptors for. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "inside.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum { REPLICA = 7, OTHER = 8, WAIT_MS = 20'000 };

static void begin(struct inside *inside)
{
    *inside = (struct inside){ .pidfd = -1 };
    if (!inside_possible())
        skip();
    inside_begin(inside, "from inside");
}

static void helper_hears(struct netns_helper *helper, const struct rlimit *limit)
{
    struct pollfd polls[NETNS_CHANNELS_MAX];
    struct rlimit before;
    size_t count = netns_helper_polls(helper, polls);

    assert_int_equal(1, poll(polls, count, WAIT_MS));
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &before));
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, limit));
    netns_helper_turn(helper, polls, count);
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &before));
}

/* A helper in this process, of one that shows and one that asks. */
struct pair {
    struct netns_helper *helper;
    struct channel *shows, *asks;
};

static void pair_begin(struct pair *pair, bool waits)
{
    int shows[2], asks[2];
    struct err err;

    assert_int_equal(0, netns_helper_new(waits, &pair->helper, &err));
    assert_int_equal(0, channel_pair(shows, &err));
    assert_int_equal(0, channel_pair(asks, &err));
    assert_int_equal(0, netns_helper_add(pair->helper, shows[1], true, &err));
    assert_int_equal(0, netns_helper_add(pair->helper, asks[1], false, &err));
    pair->shows = channel_new(shows[0]);
    pair->asks = channel_new(asks[0]);
}

static void pair_end(struct pair *pair)
{
    channel_free(pair->shows);
    channel_free(pair->asks);
    netns_helper_free(pair->helper);
}

static void pair_turn(struct pair *pair)
{
    struct rlimit limit;

    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    helper_hears(pair->helper, &limit);
}

static void pair_says(struct pair *pair, struct channel *from, uint32_t type, uint64_t replica,
                      int pidfd)
{
    struct netns_message message = { NETNS_MAGIC, type, replica, replica };
    struct err err;

    message.count = type == NETNS_WANT;
    assert_int_equal(0, channel_send(from, &message, sizeof message, &pidfd, pidfd >= 0, &err));
    pair_turn(pair);
}

/* The code of the answer for that replica; 1: there is none. */
static int pair_hears(struct channel *at, uint64_t replica)
{
    int fds[CHANNEL_FDS_MAX], r;
    struct netns_message message;
    size_t size, count = 0;
    struct err err;

    r = channel_receive(at, &message, sizeof message, &size, fds, &count, &err);
    for (size_t i = 0; i < count; i++)
        fd_close(&fds[i]);
    if (r == 0)
        return 1;
    assert_int_equal(r, 1);
    assert_int_equal(message.replica, replica);
    assert_int_equal(count, message.type == NETNS_SOCKET && message.code == 0);
    assert_int_equal(count, message.count);
    return message.code;
}

/* A new agent and a new helper: what is asked meanwhile waits for the replica it is asked of, and
 * for no other; what is not there by the agent's last word is refused. */
static void test_what_may_be_shown_yet_is_waited_for(void **state)
{
    enum { GONE = 9 };
    struct inside inside;
    struct pair pair;
    (void)state;

    begin(&inside);
    pair_begin(&pair, true);
    pair_says(&pair, pair.asks, NETNS_WANT, REPLICA, -1);
    pair_says(&pair, pair.asks, NETNS_WANT, GONE, -1);
    assert_int_equal(1, pair_hears(pair.asks, 0));
    pair_says(&pair, pair.shows, NETNS_SHOW, OTHER, inside.pidfd);
    assert_int_equal(0, pair_hears(pair.shows, OTHER));
    pair_says(&pair, pair.asks, NETNS_WANT, OTHER, -1);
    assert_int_equal(0, pair_hears(pair.asks, OTHER)); /* it is not held up */
    assert_int_equal(1, pair_hears(pair.asks, 0));
    pair_says(&pair, pair.shows, NETNS_SHOW, REPLICA, inside.pidfd);
    assert_int_equal(0, pair_hears(pair.shows, REPLICA));
    assert_int_equal(0, pair_hears(pair.asks, REPLICA));
    assert_int_equal(1, pair_hears(pair.asks, 0));
    pair_says(&pair, pair.shows, NETNS_TOLD, 0, -1);
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, GONE));
    pair_says(&pair, pair.asks, NETNS_WANT, GONE, -1); /* from here on at once */
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, GONE));
    pair_end(&pair);

    pair_begin(&pair, true); /* who asked is gone by then */
    pair_says(&pair, pair.asks, NETNS_WANT, REPLICA, -1);
    channel_free(pair.asks);
    pair.asks = NULL;
    pair_turn(&pair);
    pair_says(&pair, pair.shows, NETNS_SHOW, REPLICA, inside.pidfd);
    pair_end(&pair);
    inside_end(&inside);
}

/* What is known to be gone waits for no word of the others. */
static void test_what_is_gone_is_not_waited_for(void **state)
{
    enum { BEFORE = 9, AFTER = 10, UNSHOWN = 11 };
    struct inside inside;
    struct pair pair;
    (void)state;

    begin(&inside);
    auto_close int ended = dup(inside.pidfd);
    pair_begin(&pair, true);
    pair_says(&pair, pair.asks, NETNS_WANT, BEFORE, -1);
    pair_says(&pair, pair.shows, NETNS_FORGET, BEFORE, -1);
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, BEFORE));
    pair_says(&pair, pair.shows, NETNS_FORGET, UNSHOWN, -1);
    pair_says(&pair, pair.asks, NETNS_WANT, UNSHOWN, -1);
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, UNSHOWN));
    pair_says(&pair, pair.shows, NETNS_SHOW, REPLICA, inside.pidfd);
    assert_int_equal(0, pair_hears(pair.shows, REPLICA));
    inside_end(&inside);
    for (int i = 0; i < 2; i++) { /* it is found out, and then known */
        pair_says(&pair, pair.asks, NETNS_WANT, REPLICA, -1);
        assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, REPLICA));
    }
    pair_says(&pair, pair.asks, NETNS_WANT, AFTER, -1);
    pair_says(&pair, pair.shows, NETNS_SHOW, AFTER, ended);
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.shows, AFTER));
    assert_int_equal(ERR_NOT_FOUND, pair_hears(pair.asks, AFTER));

    inside_begin(&inside, "from inside"); /* one that is shown after all */
    pair_says(&pair, pair.shows, NETNS_SHOW, BEFORE, inside.pidfd);
    assert_int_equal(0, pair_hears(pair.shows, BEFORE));
    pair_says(&pair, pair.asks, NETNS_WANT, BEFORE, -1);
    assert_int_equal(0, pair_hears(pair.asks, BEFORE));
    pair_end(&pair);
    inside_end(&inside);
}

/* An answer that nothing is left to send by: who asked is cut off, and does not wait for it. */
static void test_no_answer_is_dropped(void **state)
{
    enum { MANY = 100 };
    struct pollfd polls[NETNS_CHANNELS_MAX];
    struct rlimit limit, few;
    struct inside inside;
    struct pair pair;
    int heard = 0, r = 0, bytes = 4096;
    (void)state;

    begin(&inside);
    pair_begin(&pair, true);
    assert_int_equal(2, netns_helper_polls(pair.helper, polls));
    assert_int_equal(0, setsockopt(polls[1].fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
    for (int i = 0; i < MANY; i++)
        pair_says(&pair, pair.asks, NETNS_WANT, REPLICA, -1);
    struct netns_message show = { NETNS_MAGIC, NETNS_SHOW, REPLICA };
    struct err err;
    assert_int_equal(0, channel_send(pair.shows, &show, sizeof show, &inside.pidfd, 1, &err));
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    int next = dup(inside.pidfd);
    few = limit;
    few.rlim_cur = (rlim_t)next + 2; /* for what is shown, and a socket: none for its duplicate */
    (void)close(next);
    helper_hears(pair.helper, &few);
    while (heard < MANY && r >= 0) {
        int fds[CHANNEL_FDS_MAX];
        struct netns_message message;
        size_t size, count = 0;
        r = channel_receive(pair.asks, &message, sizeof message, &size, fds, &count, &err);
        for (size_t i = 0; i < count; i++)
            fd_close(&fds[i]);
        heard += r == 1;
        if (r == 0)
            pair_turn(&pair);
    }
    assert_true(heard == MANY || r == ERR_CANCELED);
    pair_end(&pair);
    inside_end(&inside);
}

/* A failure that passes: it is told, and whoever asks later gets in, or is refused what is ours. */
static void test_one_that_could_not_be_looked_at(void **state)
{
    struct inside inside;
    (void)state;

    begin(&inside);
    for (int own = 0; own < 2; own++) {
        auto_close int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        int *shown = own ? &self : &inside.pidfd;
        struct netns_message show = { NETNS_MAGIC, NETNS_SHOW, REPLICA }, heard;
        struct netns_message want = { NETNS_MAGIC, NETNS_WANT, REPLICA, 1, .count = 1 };
        int pair[2], fds[CHANNEL_FDS_MAX];
        struct netns_helper *helper;
        struct rlimit limit, few;
        size_t size, fd_count;
        struct err err;

        assert_int_equal(0, netns_helper_new(false, &helper, &err));
        assert_int_equal(0, channel_pair(pair, &err));
        assert_int_equal(0, netns_helper_add(helper, pair[1], true, &err));
        struct channel *agent = channel_new(pair[0]);
        assert_int_equal(0, channel_send(agent, &show, sizeof show, shown, 1, &err));
        assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
        int next = dup(self);
        few = limit;
        few.rlim_cur = (rlim_t)next + 1; /* for what is shown, and no socket */
        (void)close(next);
        helper_hears(helper, &few);
        assert_int_equal(1,
                         channel_receive(agent, &heard, sizeof heard, &size, fds, &fd_count, &err));
        assert_int_equal(heard.code, ERR_INTERNAL);
        assert_int_equal(0, channel_send(agent, &want, sizeof want, NULL, 0, &err));
        helper_hears(helper, &limit);
        assert_int_equal(1,
                         channel_receive(agent, &heard, sizeof heard, &size, fds, &fd_count, &err));
        assert_int_equal(heard.code, own ? ERR_PRECONDITION : 0);
        assert_int_equal(fd_count, own ? 0 : 1);
        for (size_t i = 0; i < fd_count; i++)
            fd_close(&fds[i]);
        channel_free(agent);
        netns_helper_free(helper);
    }
    inside_end(&inside);
}

/* It has no descriptor left: who shows hears it, and the channel is as good as before. */
static void test_one_that_could_not_be_taken(void **state)
{
    auto_close int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct netns_message show = { NETNS_MAGIC, NETNS_SHOW, REPLICA }, heard;
    struct netns_message want = { NETNS_MAGIC, NETNS_WANT, REPLICA, 1, .count = 1 };
    int pair[2], fds[CHANNEL_FDS_MAX];
    struct netns_helper *helper;
    struct rlimit limit, none;
    size_t size, fd_count;
    struct err err;
    (void)state;

    assert_int_equal(0, netns_helper_new(false, &helper, &err));
    assert_int_equal(0, channel_pair(pair, &err));
    assert_int_equal(0, netns_helper_add(helper, pair[1], true, &err));
    struct channel *agent = channel_new(pair[0]);
    assert_int_equal(0, channel_send(agent, &show, sizeof show, &self, 1, &err));
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    helper_hears(helper, &none);
    assert_int_equal(1, channel_receive(agent, &heard, sizeof heard, &size, fds, &fd_count, &err));
    assert_int_equal(heard.type, NETNS_SHOWN);
    assert_int_equal(heard.code, ERR_INTERNAL);
    assert_int_equal(0, channel_send(agent, &want, sizeof want, NULL, 0, &err));
    helper_hears(helper, &limit);
    assert_int_equal(1, channel_receive(agent, &heard, sizeof heard, &size, fds, &fd_count, &err));
    assert_int_equal(heard.code, ERR_NOT_FOUND);
    channel_free(agent);
    netns_helper_free(helper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_may_be_shown_yet_is_waited_for),
        cmocka_unit_test(test_what_is_gone_is_not_waited_for),
        cmocka_unit_test(test_no_answer_is_dropped),
        cmocka_unit_test(test_one_that_could_not_be_looked_at),
        cmocka_unit_test(test_one_that_could_not_be_taken),
    };
    return cmocka_run_group_tests_name("netns_helper", tests, NULL, NULL);
}
