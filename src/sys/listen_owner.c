/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a port: /proc/net/tcp gives the socket's inode, /proc/PID/fd whose descriptor it is.
 * A user sees the descriptors of his own processes alone; then no process is named. */
#include "sys/listen.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

enum { STATE_LISTEN = 0x0a, STATE_BOUND = 0x07, STATE_TIME_WAIT = 0x06 };
enum { PASSES = 8 };

struct owner { /* the higher its rank, the likelier it is what is in the way */
    enum { OWNER_NONE, OWNER_ENDED, OWNER_CONNECTION, OWNER_PORT, OWNER_EXACT } rank;
    uint64_t inode; /* 0: OWNER_NONE, OWNER_ENDED */
};

static uint16_t port_of(const struct listen_address *address)
{
    return address->storage.ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)&address->storage)->sin6_port)
               : ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

/* A socket that listens on that very IPv4 address, since all of 127/8 may have the same port; else
 * one that does so on the port: what else clashes is not worth telling apart. A port may also be
 * taken by a connection that a client was given it for, for a minute after its end as well. */
static void look(const char *path, const struct listen_address *address, uint32_t listens,
                 struct owner *owner)
{
    const struct sockaddr_in *in = (const void *)&address->storage;
    bool four = address->storage.ss_family == AF_INET;
    uint16_t port = port_of(address);
    char line[512], local[33], exact[9] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (four)
        (void)snprintf(exact, sizeof exact, "%08X", in->sin_addr.s_addr);
    while (owner->rank < OWNER_EXACT && fgets(line, sizeof line, file)) {
        unsigned local_port, state, rank;
        uint64_t inode;
        if (sscanf(line,
                   " %*d: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %" SCNu64,
                   local, &local_port, &state, &inode) != 4 ||
            local_port != port)
            continue;
        bool same = strcmp(local, exact) == 0;
        if (state == listens)
            rank = same ? OWNER_EXACT : OWNER_PORT;
        else
            rank = state == STATE_TIME_WAIT || !inode ? OWNER_ENDED : OWNER_CONNECTION;
        if (rank > owner->rank)
            *owner = (struct owner){ .rank = rank, .inode = rank > OWNER_ENDED ? inode : 0 };
    }
    (void)fclose(file);
}

static bool process_has(const char *pid, const char *wanted)
{
    char path[300], link[64];
    (void)snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
    DIR *folder = opendir(path);
    bool found = false;
    if (!folder)
        return false;
    for (struct dirent *entry = readdir(folder); entry && !found; entry = readdir(folder)) {
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, link, sizeof link - 1);
        if (length < 0)
            continue;
        link[length] = '\0';
        found = strcmp(link, wanted) == 0;
    }
    (void)closedir(folder);
    return found;
}

static void describe(const char *pid, bool connection, char *ret_text, size_t room)
{
    char path[64], name[32] = "?";
    (void)snprintf(path, sizeof path, "/proc/%.16s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fgets(name, sizeof name, file))
            name[strcspn(name, "\n")] = '\0';
        (void)fclose(file);
    }
    (void)snprintf(ret_text, room, " by %sprocess %.16s (%s)", connection ? "a connection of " : "",
                   pid, ERR_TEXT(name));
}

/* /proc/net/udp counts its lines anew at each read(): where a socket ends between two of them, one
 * behind it is left out. That there is one the caller knows, so it is looked for again. */
static struct owner find(const struct listen_address *address, bool udp)
{
    uint32_t listens = udp ? STATE_BOUND : STATE_LISTEN;
    struct owner owner = {};
    for (int pass = 0; pass < PASSES && owner.rank == OWNER_NONE; pass++) {
        look(udp ? "/proc/net/udp" : "/proc/net/tcp", address, listens, &owner);
        if (owner.rank < OWNER_PORT)
            look(udp ? "/proc/net/udp6" : "/proc/net/tcp6", address, listens, &owner);
    }
    return owner;
}

void listen_owner(const struct listen_address *address, bool udp, char *ret_text, size_t room)
{
    char wanted[64];
    ret_text[0] = '\0';
    if (address->storage.ss_family == AF_UNIX)
        return;
    struct owner owner = find(address, udp);
    if (owner.rank == OWNER_ENDED)
        (void)snprintf(ret_text, room, " by a connection that has ended, for a minute at most");
    DIR *folder = owner.inode ? opendir("/proc") : NULL;
    if (!folder)
        return;
    (void)snprintf(wanted, sizeof wanted, "socket:[%" PRIu64 "]", owner.inode);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (isdigit((unsigned char)entry->d_name[0]) && process_has(entry->d_name, wanted)) {
            describe(entry->d_name, owner.rank == OWNER_CONNECTION, ret_text, room);
            break;
        }
    }
    (void)closedir(folder);
}
