/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

static union message start(void)
{
    union message m = { .as_MESSAGE_START = MESSAGE_INIT(MESSAGE_START) };
    m.as_MESSAGE_START.role = ROLE_GATEWAY;
    m.as_MESSAGE_START.loops = 1;
    return m;
}

static union message added(uint32_t loops)
{
    union message m = { .as_MESSAGE_REPLICA_ADDED = MESSAGE_INIT(MESSAGE_REPLICA_ADDED) };
    m.as_MESSAGE_REPLICA_ADDED.loops = loops;
    m.as_MESSAGE_REPLICA_ADDED.slots = m.as_MESSAGE_REPLICA_ADDED.concurrency = 4;
    return m;
}

static union message log_of(uint32_t bytes)
{
    union message m = { .as_MESSAGE_REPLICA_LOG = MESSAGE_INIT(MESSAGE_REPLICA_LOG) };
    m.as_MESSAGE_REPLICA_LOG.bytes = bytes;
    return m;
}

static union message headed(uint32_t magic, uint16_t type, uint16_t version)
{
    return (union message){ .head = { magic, type, version } };
}

static union message endless(void)
{
    union message m = start();
    memset(m.as_MESSAGE_START.zone, 'z', sizeof m.as_MESSAGE_START.zone);
    return m;
}

static union message loops(uint32_t count)
{
    union message m = start();
    m.as_MESSAGE_START.loops = count;
    return m;
}

static union message way_inside(uint32_t shows, uint32_t loop)
{
    union message m = { .as_MESSAGE_NETNS = MESSAGE_INIT(MESSAGE_NETNS) };
    m.as_MESSAGE_NETNS.shows = shows;
    m.as_MESSAGE_NETNS.loop = loop;
    return m;
}

static void row(const char *name, union message m, size_t size, size_t fds, const char *wanted)
{
    struct err err = {};
    print_message("  %s\n", name);
    int r = message_check(&m, size, fds, &err);
    if (!wanted) {
        assert_int_equal(r, 0);
        return;
    }
    assert_int_equal(r, ERR_BAD_INPUT);
    if (!strstr(err.message, wanted))
        fail_msg("'%s' does not say '%s'", err.message, wanted);
}

static void test_check(void **state)
{
    (void)state;
    size_t size = sizeof(struct message_start), head = sizeof(struct message_head);
    row("a right one", start(), size, 0, NULL);
    row("shorter than a head", start(), head - 1, 0, "no head");
    row("a byte short", start(), size - 1, 0, "bytes, not");
    row("a byte long", start(), size + 1, 0, "bytes, not");
    row("a descriptor too many", start(), size, 1, "descriptors");
    row("foreign magic", headed(1, MESSAGE_GO, 1), head, 0, "another kind");
    row("newer version", headed(MESSAGE_MAGIC, MESSAGE_GO, 2), head, 0, "version");
    row("type 0", headed(MESSAGE_MAGIC, 0, 1), head, 0, "unknown type");
    row("type past the last", headed(MESSAGE_MAGIC, MESSAGE_TYPES_END, 1), head, 0, "unknown type");
    row("a peer without its socket", headed(MESSAGE_MAGIC, MESSAGE_PEER, 1), head, 0,
        "descriptors");
    row("a peer", headed(MESSAGE_MAGIC, MESSAGE_PEER, 1), head, 1, NULL);
    row("text without an end", endless(), size, 0, "zone has no end");
    row("no loops", loops(0), size, 0, "loops is 0");
    row("too many loops", loops(PERIGEE_LOOPS_MAX + 1), size, 0, "loops is 9");
    size_t replica = sizeof(struct message_replica_added);
    row("a replica for the agent", added(2), replica, 1, NULL);
    row("a replica for the gateway", added(2), replica, 5, NULL);
    row("a replica with a pipe missing", added(2), replica, 4, "descriptors");
    row("a full log", log_of(MESSAGE_LOG_BYTES), sizeof(struct message_replica_log), 0, NULL);
    size_t way = sizeof(struct message_netns);
    row("a way inside", way_inside(1, 0), way, 1, NULL);
    row("a way inside without its socket", way_inside(0, 0), way, 0, "descriptors");
    row("a way inside for a loop too many", way_inside(0, PERIGEE_LOOPS_MAX), way, 1, "loop is");
    row("one that shows twice", way_inside(2, 0), way, 1, "shows is 2");
    row("a log that lies", log_of(MESSAGE_LOG_BYTES + 1), sizeof(struct message_replica_log), 0,
        "bytes is");
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(message_name(MESSAGE_REPLICA_START), "MESSAGE_REPLICA_START");
    assert_string_equal(message_name(999), "?");
    assert_int_equal(message_size(999), 0);
    assert_string_equal(replica_end_text(REPLICA_END_STOPPED), "stopped");
    assert_string_equal(replica_end_text(99), "ended");
    assert_string_equal(role_name(ROLE_AGENT), "pop");
    assert_string_equal(role_name(ROLE_NETNS), "netns");
    assert_string_equal(role_name(ROLE_NETNS + 1), "?");
    assert_string_equal(role_name(0), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
