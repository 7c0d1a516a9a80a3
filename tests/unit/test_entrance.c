/* SPDX-License-Identifier: Apache-2.0 */
/* Calls into network namespaces of others, by a real helper: both are child processes. */
#include "replica/entrance.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "inside.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "replica/prober.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

enum { REPLICA = 7, OTHER = 8, WAIT_MS = 20'000 };

struct place {
    struct loop *loop;
    struct entrance *shows, *asks;
    struct http_client *client;
    struct inside inside;
    struct inside_helper helper;
    struct timer *late;
    unsigned shown, lost;
    int shown_code; /* of the last */
};

struct reply {
    int status, code;
    char body[64];
    unsigned done;
};

/* ---- events ---------------------------------------------------------------------------------- */

static void on_shown(uint64_t replica, const struct err *err, void *data)
{
    struct place *place = data;

    assert_true(replica == REPLICA || replica == OTHER);
    place->shown++;
    place->shown_code = err ? err->code : 0;
}

static void on_lost(void *data)
{
    ((struct place *)data)->lost++;
}

static void on_late(void *data)
{
    (void)data;
    fail_msg("nothing came");
}

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    (void)call;
    ((struct reply *)data)->status = response->status;
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    struct reply *reply = data;
    (void)call;

    assert_true(strlen(reply->body) + bytes.size < sizeof reply->body);
    strncat(reply->body, bytes.data, bytes.size);
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct reply *reply = data;
    (void)call;

    reply->code = err ? err->code : 0;
    reply->done++;
    if (err)
        print_message("    %s\n", err->message);
}

static void until(struct place *place, const unsigned *count, unsigned wanted)
{
    timer_start(place->late, WAIT_MS);
    while (*count < wanted)
        loop_run_once(place->loop, true);
    timer_stop(place->late);
}

/* ---- begin and end --------------------------------------------------------------------------- */

static void helper_begin(struct place *place)
{
    inside_helper_begin(&place->helper, 1);
    entrance_open(place->shows, take_fd(place->helper.shows_fd));
    entrance_open(place->asks, take_fd(place->helper.others_fds[0]));
}

static void place_begin(struct place *place)
{
    static const struct entrance_events events = { on_shown, on_lost };

    *place = (struct place){ .inside.pidfd = -1 };
    if (!inside_possible())
        skip();
    inside_begin(&place->inside, "from inside");
    place->loop = loop_new();
    place->late = timer_new(place->loop, on_late, NULL);
    place->shows = entrance_new(place->loop, &events, place);
    place->asks = entrance_new(place->loop, NULL, NULL);
    struct http_client_config config = { .dialer = entrance_dialer(place->asks) };
    place->client = http_client_new(place->loop, &config);
}

static void place_end(struct place *place)
{
    http_client_free(place->client);
    entrance_free(place->asks);
    entrance_free(place->shows);
    timer_free(place->late);
    loop_free(place->loop);
    inside_helper_end(&place->helper);
    inside_end(&place->inside);
}

static struct http_call *get(struct place *place, uint64_t replica, bool fresh, struct reply *reply)
{
    static const struct http_call_events events = { on_head, on_body, on_done };
    struct http_request_spec spec = {
        .address = &place->inside.address,
        .method = "GET",
        .target = SLICE("/"),
        .scope = replica,
        .fresh = fresh,
        .once = true,
    };

    *reply = (struct reply){};
    return http_client_call(place->client, &spec, &events, reply);
}

static void expect_inside(struct place *place, bool fresh)
{
    struct reply reply;

    get(place, REPLICA, fresh, &reply);
    until(place, &reply.done, 1);
    assert_int_equal(reply.code, 0);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.body, "from inside");
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_a_call_goes_inside_and_its_connection_is_kept(void **state)
{
    struct place place;
    struct reply reply;
    (void)state;

    place_begin(&place);
    helper_begin(&place);
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    until(&place, &place.shown, 1);
    assert_int_equal(place.shown_code, 0);
    for (int i = 0; i < 3; i++)
        expect_inside(&place, false);
    assert_int_equal(http_client_stats(place.client)->connects, 1);
    /* Nothing of it is to be had from outside: the same address is nobody's, or another's. */
    get(&place, OTHER, false, &reply);
    until(&place, &reply.done, 1);
    assert_int_equal(reply.code, ERR_OVERLOADED);
    place_end(&place);
}

static void test_many_at_once_are_answered_in_order(void **state)
{
    enum { MANY = 200 };
    static struct reply replies[MANY];
    struct place place;
    unsigned done;
    (void)state;

    place_begin(&place);
    helper_begin(&place);
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    until(&place, &place.shown, 1);
    for (int i = 0; i < MANY; i++) /* every fourth one to none */
        get(&place, i % 4 ? REPLICA : OTHER, true, &replies[i]);
    for (int i = 0; i < MANY; i++) {
        until(&place, &replies[i].done, 1);
        assert_int_equal(replies[i].code, i % 4 ? 0 : ERR_OVERLOADED);
        if (i % 4)
            assert_string_equal(replies[i].body, "from inside");
    }
    done = (unsigned)http_client_stats(place.client)->connects;
    assert_int_equal(done, MANY);
    place_end(&place);
}

/* What was asked before there was a helper, or while it was away, waits for the next one, which is
 * shown by itself what there is. */
static void test_a_helper_that_comes_late_or_again(void **state)
{
    struct place place;
    struct reply early, between;
    (void)state;

    place_begin(&place);
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    get(&place, REPLICA, true, &early);
    for (int i = 0; i < 5; i++)
        loop_run_once(place.loop, false);
    assert_int_equal(early.done, 0);
    helper_begin(&place);
    until(&place, &place.shown, 1);
    until(&place, &early.done, 1);
    assert_int_equal(early.code, 0);
    assert_int_equal(place.lost, 0);

    inside_helper_end(&place.helper);
    until(&place, &place.lost, 1);
    get(&place, REPLICA, true, &between);
    for (int i = 0; i < 5; i++)
        loop_run_once(place.loop, false);
    assert_int_equal(between.done, 0);
    helper_begin(&place);
    until(&place, &place.shown, 2);
    until(&place, &between.done, 1);
    assert_int_equal(between.code, 0);
    assert_string_equal(between.body, "from inside");
    place_end(&place);
}

/* That a helper is away is no reason to give a connection up, for as long as was allowed. */
static void test_a_call_waits_longer_than_for_a_connection(void **state)
{
    enum { CONNECT_MS = 20 };
    static const struct {
        const char *name;
        int64_t dialer_ms;
        bool helper; /* in the end */
        int code;
    } rows[] = {
        { "until it comes", WAIT_MS, true, 0 },
        { "for so long", 2 * CONNECT_MS, false, ERR_DEADLINE },
        { "not at all", 0, false, ERR_DEADLINE },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct place place;
        struct reply reply;
        print_message("  %s\n", rows[i].name);
        place_begin(&place);
        struct http_client_config config = { .dialer = entrance_dialer(place.asks),
                                             .connect_ms = CONNECT_MS,
                                             .dialer_ms = rows[i].dialer_ms };
        http_client_free(place.client);
        place.client = http_client_new(place.loop, &config);
        entrance_show(place.shows, REPLICA, place.inside.pidfd);
        int64_t from_ms = loop_now_ms(place.loop);
        get(&place, REPLICA, true, &reply);
        timer_start(place.late, WAIT_MS);
        while (reply.done == 0 && loop_now_ms(place.loop) < from_ms + 5 * CONNECT_MS)
            loop_run_once(place.loop, true);
        timer_stop(place.late);
        if (rows[i].helper) {
            assert_int_equal(reply.done, 0);
            helper_begin(&place);
        }
        until(&place, &reply.done, 1);
        assert_int_equal(reply.code, rows[i].code);
        place_end(&place);
    }
}

static void test_one_that_has_ended_or_was_forgotten_is_an_error(void **state)
{
    struct place place;
    struct reply reply;
    (void)state;

    place_begin(&place);
    helper_begin(&place);
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    until(&place, &place.shown, 1);
    expect_inside(&place, true);
    entrance_forget(place.shows, REPLICA);
    entrance_forget(place.shows, REPLICA); /* again is harmless */
    entrance_show(place.shows, OTHER, place.inside.pidfd);
    until(&place, &place.shown, 2); /* the helper has heard of both */
    get(&place, REPLICA, true, &reply);
    until(&place, &reply.done, 1);
    assert_int_equal(reply.code, ERR_OVERLOADED);

    int pidfd = dup(place.inside.pidfd);
    inside_end(&place.inside);
    get(&place, OTHER, true, &reply);
    until(&place, &reply.done, 1);
    assert_int_equal(reply.code, ERR_OVERLOADED);
    entrance_show(place.shows, REPLICA, pidfd);
    until(&place, &place.shown, 3);
    assert_int_equal(place.shown_code, ERR_NOT_FOUND);
    close(pidfd);
    place_end(&place);
}

/* In each stage: waiting for a socket, connecting, and with the entrance itself. */
static void test_what_is_taken_back_ends_once(void **state)
{
    struct place place;
    struct reply waiting, gone, left;
    (void)state;

    place_begin(&place);
    http_call_cancel(get(&place, REPLICA, true, &gone)); /* before it is dialed */
    struct http_call *call = get(&place, REPLICA, true, &waiting);
    for (int i = 0; i < 3; i++)
        loop_run_once(place.loop, false);
    http_call_cancel(call);
    until(&place, &waiting.done, 1);
    assert_int_equal(waiting.code, ERR_CANCELED);
    assert_int_equal(gone.code, ERR_CANCELED);
    helper_begin(&place); /* and is asked for none of them */
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    until(&place, &place.shown, 1);
    expect_inside(&place, true);
    get(&place, REPLICA, true, &left);
    loop_run_once(place.loop, false);
    place_end(&place);
    assert_int_equal(left.done, 1);
    assert_int_equal(left.code, ERR_CANCELED);
    assert_int_equal(waiting.done, 1);
}

/* ---- what runs out --------------------------------------------------------------------------- */

static void on_dialed(struct stream *stream, const struct err *err, void *data)
{
    struct reply *reply = data;

    assert_null(stream);
    reply->code = err->code;
    reply->done++;
}

static void *dial(struct place *place, struct reply *reply)
{
    const struct http_dialer *dialer = entrance_dialer(place->asks);

    *reply = (struct reply){};
    return dialer->dial(dialer, place->loop, REPLICA, &place->inside.address, on_dialed, reply);
}

/* Its socket came, and could not be taken: the channel is as good as before. */
static void test_a_socket_without_a_descriptor_is_lost_alone(void **state)
{
    struct rlimit limit, none;
    struct place place;
    struct reply reply;
    (void)state;

    place_begin(&place);
    inside_helper_begin(&place.helper, 1);
    struct pollfd answer = { dup(place.helper.others_fds[0]), POLLIN, 0 };
    entrance_open(place.shows, take_fd(place.helper.shows_fd));
    entrance_open(place.asks, take_fd(place.helper.others_fds[0]));
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    until(&place, &place.shown, 1);
    (void)dial(&place, &reply);
    assert_int_equal(1, poll(&answer, 1, WAIT_MS));
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &none));
    while (poll(&answer, 1, 0) == 1)
        loop_run_once(place.loop, true);
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &limit));
    until(&place, &reply.done, 1); /* at once, not in its time */
    assert_int_equal(reply.code, ERR_OVERLOADED);
    (void)close(answer.fd);
    expect_inside(&place, true);
    place_end(&place);
}

/* Who shows has none left: that one is shown all the same. */
static void test_one_is_shown_without_a_descriptor_of_its_own(void **state)
{
    struct rlimit limit, none;
    struct place place;
    (void)state;

    place_begin(&place);
    helper_begin(&place);
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 3;
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &none));
    entrance_show(place.shows, REPLICA, place.inside.pidfd);
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &limit));
    until(&place, &place.shown, 1);
    assert_int_equal(place.shown_code, 0);
    expect_inside(&place, true);
    place_end(&place);
}

/* A helper that does not read holds up those who ask, and is not given up. */
static void test_what_is_asked_of_one_that_does_not_read(void **state)
{
    enum { MANY = 10'000 };
    struct netns_message message = {};
    struct place place;
    struct reply reply = {};
    struct err err;
    int pair[2], read_some;
    (void)state;

    place_begin(&place);
    assert_int_equal(0, channel_pair(pair, &err));
    entrance_open(place.asks, pair[0]);
    for (int i = 0; i < MANY && reply.code != ERR_OVERLOADED; i++) {
        void *dialing = dial(&place, &reply);
        loop_run_once(place.loop, false);
        if (reply.done == 0)
            entrance_dialer(place.asks)->cancel(dialing);
        until(&place, &reply.done, 1);
    }
    assert_int_equal(reply.code, ERR_OVERLOADED);
    do { /* it reads again */
        read_some = 0;
        while (recv(pair[1], &message, sizeof message, 0) > 0)
            read_some++;
        assert_int_equal(errno, EAGAIN); /* it is not the end */
        loop_run_once(place.loop, false);
    } while (read_some > 0);
    (void)dial(&place, &reply);
    assert_int_equal(recv(pair[1], &message, sizeof message, 0), sizeof message);
    assert_int_equal(message.type, NETNS_WANT);
    (void)close(pair[1]);
    place_end(&place);
}

/* ---- probes ---------------------------------------------------------------------------------- */

struct seen {
    unsigned well, ill;
};

static void on_seen(struct prober *prober, bool well, const char *why, void *data)
{
    struct seen *seen = data;
    (void)prober;

    seen->well += well;
    seen->ill += !well;
    if (!well)
        print_message("    %s\n", why);
}

static void test_probes_go_inside(void **state)
{
    struct slice paths[] = { SLICE("/health"), {} }; /* by HTTP, and by a connection */
    (void)state;

    for (size_t i = 0; i < 2; i++) {
        struct place place;
        struct seen seen = {};
        place_begin(&place);
        helper_begin(&place);
        entrance_show(place.shows, REPLICA, place.inside.pidfd);
        struct probe_plan plan = {
            .address = place.inside.address,
            .path = paths[i],
            .begin_ms = 5,
            .period_ms = 20,
            .timeout_ms = 5000,
            .failures = 1,
            .scope = REPLICA,
            .dialer = entrance_dialer(place.asks),
        };
        struct prober *prober = prober_new(place.loop, place.client, &plan, on_seen, &seen);
        until(&place, &seen.well, 1);
        seen.ill = 0; /* some came before it was shown, perhaps */
        inside_end(&place.inside);
        until(&place, &seen.ill, 1);
        prober_free(prober);
        place_end(&place);
    }
}

/* That there is no helper says nothing of who is inside: whatever was known of it stays. */
static void test_a_probe_without_a_helper_is_no_verdict(void **state)
{
    struct slice paths[] = { SLICE("/health"), {} };
    (void)state;

    for (size_t i = 0; i < 2; i++) {
        struct place place;
        struct seen seen = {};
        place_begin(&place);
        helper_begin(&place);
        entrance_show(place.shows, REPLICA, place.inside.pidfd);
        until(&place, &place.shown, 1);
        struct probe_plan plan = {
            .address = place.inside.address,
            .path = paths[i],
            .begin_ms = 5,
            .period_ms = 5,
            .timeout_ms = 200,
            .failures = 1,
            .scope = REPLICA,
            .dialer = entrance_dialer(place.asks),
        };
        struct prober *prober = prober_new(place.loop, place.client, &plan, on_seen, &seen);
        until(&place, &seen.well, 1);
        inside_helper_end(&place.helper);
        until(&place, &plan.dialer->missed, plan.dialer->missed + 3);
        assert_int_equal(seen.ill, 0);
        prober_free(prober);
        place_end(&place);
    }
}

/* ---- the helper's words ---------------------------------------------------------------------- */

/* One that says what it may not is given up; what it was asked waits for the next. */
static void test_a_helper_that_lies_is_cut_off(void **state)
{
    static const struct {
        const char *name;
        struct netns_message message;
        size_t size;
    } rows[] = {
        { "short", { NETNS_MAGIC, NETNS_SHOWN }, 8 },
        { "of another kind", { 7, NETNS_SHOWN }, sizeof(struct netns_message) },
        { "a question", { NETNS_MAGIC, NETNS_WANT, .count = 1 }, sizeof(struct netns_message) },
        { "success without a socket", { NETNS_MAGIC, NETNS_SOCKET }, sizeof(struct netns_message) },
        { "no error", { NETNS_MAGIC, NETNS_SHOWN, .code = -999 }, sizeof(struct netns_message) },
    };
    struct place place;
    struct err err;
    (void)state;

    place_begin(&place);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int pair[2];
        print_message("  %s\n", rows[i].name);
        assert_int_equal(0, channel_pair(pair, &err));
        entrance_open(place.shows, pair[0]);
        assert_int_equal(rows[i].size, send(pair[1], &rows[i].message, rows[i].size, 0));
        until(&place, &place.lost, (unsigned)i + 1);
        close(pair[1]);
    }
    place_end(&place);
}

/* ---- who forgets and who asks again ---------------------------------------------------------- */

static void expect_said(int fd, uint32_t type, uint64_t replica)
{
    struct netns_message message;

    assert_int_equal(recv(fd, &message, sizeof message, 0), sizeof message);
    assert_int_equal(message.type, type);
    assert_int_equal(message.replica, replica);
}

/* That one is gone which was never shown: each helper hears it, until all is told. */
static void test_one_that_is_forgotten_unshown(void **state)
{
    struct place place;
    struct err err;
    (void)state;

    place_begin(&place);
    entrance_forget(place.shows, OTHER);
    entrance_forget(place.shows, REPLICA);
    entrance_show(place.shows, REPLICA, place.inside.pidfd); /* it is not, after all */
    for (int i = 0; i < 3; i++) {
        int pair[2];
        assert_int_equal(0, channel_pair(pair, &err));
        entrance_open(place.shows, pair[0]);
        expect_said(pair[1], NETNS_SHOW, REPLICA);
        if (i < 2)
            expect_said(pair[1], NETNS_FORGET, OTHER);
        else
            expect_said(pair[1], NETNS_TOLD, 0);
        if (i == 1) {
            entrance_told(place.shows);
            expect_said(pair[1], NETNS_TOLD, 0);
            entrance_forget(place.shows, OTHER); /* unknown by now */
        }
        assert_int_equal(-1, recv(pair[1], &place.shown, sizeof place.shown, 0));
        assert_int_equal(errno, EAGAIN);
        (void)close(pair[1]);
    }
    place_end(&place);
}

/* Each channel that it is given ends at once. The loop's clock bounds from below: that it is more
 * is nobody's fault. */
static void test_who_gets_no_channel_asks_ever_more_seldom(void **state)
{
    enum { TIMES = 5, LEAST_MS = 50 + 100 + 200 + 400 };
    struct place place;
    struct err err;
    int64_t from_ms;
    (void)state;

    place_begin(&place);
    from_ms = loop_now_ms(place.loop);
    for (unsigned i = 0; i < TIMES; i++) {
        int pair[2];
        assert_int_equal(0, channel_pair(pair, &err));
        (void)close(pair[1]);
        entrance_open(place.shows, pair[0]);
        until(&place, &place.lost, i + 1);
    }
    assert_true(loop_now_ms(place.loop) - from_ms >= LEAST_MS);
    until(&place, &place.lost, TIMES + 1); /* nor is it enough to have asked once */
    place_end(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_goes_inside_and_its_connection_is_kept),
        cmocka_unit_test(test_many_at_once_are_answered_in_order),
        cmocka_unit_test(test_a_helper_that_comes_late_or_again),
        cmocka_unit_test(test_a_call_waits_longer_than_for_a_connection),
        cmocka_unit_test(test_one_that_has_ended_or_was_forgotten_is_an_error),
        cmocka_unit_test(test_what_is_taken_back_ends_once),
        cmocka_unit_test(test_a_socket_without_a_descriptor_is_lost_alone),
        cmocka_unit_test(test_one_is_shown_without_a_descriptor_of_its_own),
        cmocka_unit_test(test_what_is_asked_of_one_that_does_not_read),
        cmocka_unit_test(test_probes_go_inside),
        cmocka_unit_test(test_a_probe_without_a_helper_is_no_verdict),
        cmocka_unit_test(test_a_helper_that_lies_is_cut_off),
        cmocka_unit_test(test_one_that_is_forgotten_unshown),
        cmocka_unit_test(test_who_gets_no_channel_asks_ever_more_seldom),
    };
    return cmocka_run_group_tests_name("entrance", tests, NULL, NULL);
}
