/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a port: /proc/net/tcp gives the listener's inode, /proc/PID/fd whose descriptor it is.
 * A user sees the descriptors of his own processes alone; then nothing is said. */
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

enum { STATE_LISTEN = 0x0a, STATE_BOUND = 0x07 };
enum { PASSES = 8 };

static uint16_t port_of(const struct listen_address *address)
{
    return address->storage.ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)&address->storage)->sin6_port)
               : ntohs(((const struct sockaddr_in *)&address->storage)->sin_port);
}

/* The listener on that very IPv4 address, since all of 127/8 may have the same port; else any on
 * the port: what else clashes is not worth telling apart. */
static uint64_t find_inode(const char *path, const struct listen_address *address, uint32_t wanted)
{
    const struct sockaddr_in *in = (const void *)&address->storage;
    bool four = address->storage.ss_family == AF_INET;
    uint16_t port = port_of(address);
    char line[512], local[33], exact[9] = "";
    uint64_t found = 0;
    bool same = false;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (four)
        (void)snprintf(exact, sizeof exact, "%08X", in->sin_addr.s_addr);
    while (!same && fgets(line, sizeof line, file)) {
        unsigned local_port, state;
        uint64_t inode;
        if (sscanf(line,
                   " %*d: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %" SCNu64,
                   local, &local_port, &state, &inode) == 4 &&
            state == wanted && local_port == port) {
            same = strcmp(local, exact) == 0;
            found = found && !same ? found : inode;
        }
    }
    (void)fclose(file);
    return found;
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

static void describe(const char *pid, char *ret_text, size_t room)
{
    char path[64], name[32] = "?";
    (void)snprintf(path, sizeof path, "/proc/%.16s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fgets(name, sizeof name, file))
            name[strcspn(name, "\n")] = '\0';
        (void)fclose(file);
    }
    (void)snprintf(ret_text, room, " by process %.16s (%s)", pid, ERR_TEXT(name));
}

/* /proc/net/udp counts its lines anew at each read(): where a socket ends between two of them, one
 * behind it is left out. That there is one the caller knows, so it is looked for again. */
static uint64_t find(const struct listen_address *address, bool udp)
{
    uint32_t state = udp ? STATE_BOUND : STATE_LISTEN;
    uint64_t inode = 0;
    for (int pass = 0; pass < PASSES && !inode; pass++) {
        inode = find_inode(udp ? "/proc/net/udp" : "/proc/net/tcp", address, state);
        if (!inode)
            inode = find_inode(udp ? "/proc/net/udp6" : "/proc/net/tcp6", address, state);
    }
    return inode;
}

void listen_owner(const struct listen_address *address, bool udp, char *ret_text, size_t room)
{
    char wanted[64];
    ret_text[0] = '\0';
    if (address->storage.ss_family == AF_UNIX)
        return;
    uint64_t inode = find(address, udp);
    DIR *folder = inode ? opendir("/proc") : NULL;
    if (!folder)
        return;
    (void)snprintf(wanted, sizeof wanted, "socket:[%" PRIu64 "]", inode);
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (isdigit((unsigned char)entry->d_name[0]) && process_has(entry->d_name, wanted)) {
            describe(entry->d_name, ret_text, room);
            break;
        }
    }
    (void)closedir(folder);
}
