/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/messages.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"

/* A message crosses a seqpacket socket whole, and the sizes are what both sides agree on. */
static_assert(sizeof(struct message_head) == 8);
static_assert(sizeof(struct message_start) == 4536);
static_assert(sizeof(struct message_replica_start) == 400);
static_assert(sizeof(struct message_replica_added) == 160);
static_assert(sizeof(union message) <= 8192, "fits a receiver's buffer");

/* Descriptors: what a message without them would mean is nothing, so all but one are exact. */
static const struct {
    const char *name;
    size_t size;
    size_t fds;
} types[MESSAGE_TYPES_END] = {
#define TYPE_ROW(type, payload, fds, text) [type] = { #type, sizeof(struct payload), fds },
    MESSAGE_TABLE(TYPE_ROW)
#undef TYPE_ROW
};

/* Strings that must be terminated within their array. */
#define TEXT(type, payload, field)                                                                 \
    {                                                                                              \
        type, offsetof(struct payload, field), sizeof(((struct payload *)NULL)->field), #field     \
    }
static const struct {
    uint16_t type;
    size_t offset, size;
    const char *name;
} texts[] = {
    TEXT(MESSAGE_START, message_start, home),
    TEXT(MESSAGE_START, message_start, pop),
    TEXT(MESSAGE_START, message_start, country),
    TEXT(MESSAGE_START, message_start, city),
    TEXT(MESSAGE_START, message_start, zone),
    TEXT(MESSAGE_START, message_start, control),
    TEXT(MESSAGE_START, message_start, api_host),
    TEXT(MESSAGE_START, message_start, libdir),
    TEXT(MESSAGE_START, message_start, walls_off),
    TEXT(MESSAGE_START, message_start, why_from),
    TEXT(MESSAGE_ADDRESS, message_address, address),
    TEXT(MESSAGE_LISTENER, message_listener, address),
    TEXT(MESSAGE_PEER_KEY, message_peer_key, pop),
    TEXT(MESSAGE_PEER_SEEN, message_peer_seen, pop),
    TEXT(MESSAGE_PROCESS, message_process, name),
    TEXT(MESSAGE_PROCESS, message_process, text),
    TEXT(MESSAGE_REVISION_PROJECT, message_revision_project, project),
    TEXT(MESSAGE_REPLICA_START, message_replica_start, runtime),
    TEXT(MESSAGE_REPLICA_START, message_replica_start, name),
    TEXT(MESSAGE_REPLICA_START, message_replica_start, model_file),
    TEXT(MESSAGE_REPLICA_ADDED, message_replica_added, runtime),
    TEXT(MESSAGE_REPLICA_ADDED, message_replica_added, name),
    TEXT(MESSAGE_REPLICA_KILL, message_replica_kill, text),
    TEXT(MESSAGE_REPLICA_EXITED, message_replica_exited, text),
    TEXT(MESSAGE_REPLICA_WALLS, message_replica_walls, on),
    TEXT(MESSAGE_REPLICA_WALLS, message_replica_walls, off),
    TEXT(MESSAGE_UPGRADE, message_upgrade, binary),
    TEXT(MESSAGE_UPGRADE_STATE, message_upgrade_state, version),
    TEXT(MESSAGE_UPGRADE_STATE, message_upgrade_state, text),
    TEXT(MESSAGE_UPGRADE_CHECKED, message_upgrade_checked, version),
    TEXT(MESSAGE_UPGRADE_CHECKED, message_upgrade_checked, text),
    TEXT(MESSAGE_REPOSITORY, message_repository, unused),
    TEXT(MESSAGE_DENIED, message_denied, reason),
    TEXT(MESSAGE_REPOSITORY_DONE, message_repository_done, text),
};

/* 32-bit fields with bounds, both included. */
#define RANGE(type, payload, field, low, high)                                                     \
    {                                                                                              \
        type, offsetof(struct payload, field), (low), (high), #field                               \
    }
static const struct {
    uint16_t type;
    size_t offset;
    uint32_t low, high;
    const char *name;
} ranges[] = {
    RANGE(MESSAGE_START, message_start, role, ROLE_GATEWAY, ROLE_NETNS),
    RANGE(MESSAGE_START, message_start, loops, 1, PERIGEE_LOOPS_MAX),
    RANGE(MESSAGE_START, message_start, spin_us, 0, MESSAGE_SPIN_US_MAX),
    RANGE(MESSAGE_START, message_start, sandbox, PERIGEE_SANDBOX_BEST, PERIGEE_SANDBOX_REQUIRE),
    RANGE(MESSAGE_LISTENER, message_listener, kind, LISTENER_GATEWAY, LISTENER_DNS),
    RANGE(MESSAGE_ADDRESS, message_address, kind, LISTENER_GATEWAY, LISTENER_DNS),
    RANGE(MESSAGE_LISTENER, message_listener, loop, 0, PERIGEE_LOOPS_MAX - 1),
    RANGE(MESSAGE_PROCESS, message_process, role, ROLE_GATEWAY, ROLE_NETNS),
    RANGE(MESSAGE_PROCESS, message_process, state, PROCESS_STARTED, PROCESS_EXITED),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, slots, 2, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, concurrency, 1, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, places_max, 0, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, threads, 1, 1024),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, batch_max, 1, 1 << 20),
    RANGE(MESSAGE_REPLICA_START, message_replica_start, batch_delay_us, 0, 60'000'000),
    RANGE(MESSAGE_REPLICA_ADDED, message_replica_added, slots, 2, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_ADDED, message_replica_added, concurrency, 1, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_ADDED, message_replica_added, places_max, 0, PERIGEE_SLOTS_MAX),
    RANGE(MESSAGE_REPLICA_ADDED, message_replica_added, loops, 1, PERIGEE_LOOPS_MAX),
    RANGE(MESSAGE_REPLICA_KILL, message_replica_kill, end, 0, REPLICA_ENDS - 1),
    RANGE(MESSAGE_REPLICA_EXITED, message_replica_exited, end, 0, REPLICA_ENDS - 1),
    RANGE(MESSAGE_REPLICA_LOG, message_replica_log, bytes, 0, MESSAGE_LOG_BYTES),
    RANGE(MESSAGE_NETNS, message_netns, shows, 0, 1),
    RANGE(MESSAGE_NETNS, message_netns, loop, 0, PERIGEE_LOOPS_MAX - 1),
    RANGE(MESSAGE_NETNS_LOST, message_netns, shows, 0, 0),
    RANGE(MESSAGE_NETNS_LOST, message_netns, loop, 0, PERIGEE_LOOPS_MAX - 1),
    RANGE(MESSAGE_PEER_KEY, message_peer_key, flags, 0, MESSAGE_KEYS_FIRST),
    RANGE(MESSAGE_PEER_SEEN, message_peer_seen, seen, 0, MESSAGE_SEEN_MAX),
    RANGE(MESSAGE_PEER_SEEN, message_peer_seen, failed, 0, MESSAGE_SEEN_MAX),
    RANGE(MESSAGE_ASKED, message_asked, count, 1, ASKED_CELLS_MAX),
    RANGE(MESSAGE_UPGRADE_STATE, message_upgrade_state, state, UPGRADE_STEP, UPGRADE_COUNTS),
    RANGE(MESSAGE_REPOSITORY, message_repository, op, REPOSITORY_LOAD, REPOSITORY_UNLOAD),
};

static bool known(uint16_t type)
{
    return type > MESSAGE_NONE && type < MESSAGE_TYPES_END;
}

const char *message_name(uint16_t type)
{
    return known(type) ? types[type].name : "?";
}

size_t message_size(uint16_t type)
{
    return known(type) ? types[type].size : 0;
}

const char *replica_end_text(uint32_t end)
{
    static const char *const names[] = {
#define END_TEXT(end, text) text,
        REPLICA_END_TABLE(END_TEXT)
#undef END_TEXT
    };
    return end < REPLICA_ENDS ? names[end] : "ended";
}

const char *role_name(uint32_t role)
{
    static const char *const names[] = {
        [ROLE_GATEWAY] = "gateway", [ROLE_AGENT] = "pop",         [ROLE_CONTROL] = "control",
        [ROLE_DNS] = "dns",         [ROLE_TEMPLATE] = "template", [ROLE_NETNS] = "netns",
    };
    return role >= ROLE_GATEWAY && role <= ROLE_NETNS ? names[role] : "?";
}

static bool fds_right(const union message *message, size_t fd_count)
{
    uint16_t type = message->head.type;
    if (type == MESSAGE_REPLICA_ADDED) /* the agent gets the output region alone */
        return fd_count == 1 || fd_count == 3 + message->as_MESSAGE_REPLICA_ADDED.loops;
    return fd_count == types[type].fds;
}

static int check_fields(const union message *message, struct err *err)
{
    uint16_t type = message->head.type;
    const char *bytes = (const char *)message;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].type == type && !memchr(bytes + texts[i].offset, 0, texts[i].size))
            return err_set(err, ERR_BAD_INPUT, "%s: %s has no end", types[type].name,
                           texts[i].name);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (ranges[i].type != type)
            continue;
        uint32_t value;
        memcpy(&value, bytes + ranges[i].offset, sizeof value);
        if (value < ranges[i].low || value > ranges[i].high)
            return err_set(err, ERR_BAD_INPUT, "%s: %s is %u, not from %u to %u", types[type].name,
                           ranges[i].name, value, ranges[i].low, ranges[i].high);
    }
    return 0;
}

int message_check(const union message *message, size_t size, size_t fd_count, struct err *err)
{
    if (size < sizeof message->head)
        return err_set(err, ERR_BAD_INPUT, "a message of %zu bytes has no head", size);
    if (message->head.magic != MESSAGE_MAGIC || message->head.version != MESSAGE_VERSION)
        return err_set(err, ERR_BAD_INPUT, "a message of another kind or version (%x, %u)",
                       message->head.magic, message->head.version);
    uint16_t type = message->head.type;
    if (!known(type))
        return err_set(err, ERR_BAD_INPUT, "a message of unknown type %u", type);
    if (size != types[type].size)
        return err_set(err, ERR_BAD_INPUT, "%s has %zu bytes, not %zu", types[type].name, size,
                       types[type].size);
    int r = check_fields(message, err);
    if (r < 0)
        return r;
    if (!fds_right(message, fd_count))
        return err_set(err, ERR_BAD_INPUT, "%s came with %zu descriptors", types[type].name,
                       fd_count);
    return 0;
}
