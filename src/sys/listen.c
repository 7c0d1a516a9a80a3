/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/listen.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/slice.h"
#include "sys/fd.h"

enum { BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */ BOTH_WAYS_BYTES = 96 };

static int parse_port(struct slice text, uint16_t *ret_port)
{
    uint64_t port;
    if (text.size > 5 || !slice_u64(text, &port) || port > UINT16_MAX)
        return -1;
    *ret_port = htons((uint16_t)port);
    return 0;
}

static int parse_tcp(struct slice text, struct listen_address *address)
{
    char host[INET6_ADDRSTRLEN] = "";
    size_t colon = text.size;
    while (colon > 0 && text.data[colon - 1] != ':')
        colon--;
    if (colon < 2)
        return -1;
    struct slice name = { text.data, colon - 1 };
    struct slice number = { text.data + colon, text.size - colon };
    bool six = name.size > 2 && name.data[0] == '[' && name.data[name.size - 1] == ']';
    if (six)
        name = (struct slice){ name.data + 1, name.size - 2 };
    if (name.size >= sizeof host)
        return -1;
    memcpy(host, name.data, name.size);

    struct sockaddr_in *four = (struct sockaddr_in *)&address->storage;
    struct sockaddr_in6 *wide = (struct sockaddr_in6 *)&address->storage;
    address->storage.ss_family = six ? AF_INET6 : AF_INET;
    address->size = six ? sizeof *wide : sizeof *four;
    void *bytes = six ? (void *)&wide->sin6_addr : (void *)&four->sin_addr;
    if (inet_pton(address->storage.ss_family, host, bytes) != 1)
        return -1;
    return parse_port(number, six ? &wide->sin6_port : &four->sin_port);
}

static int parse_unix(const char *flag, struct slice path, struct listen_address *address,
                      struct err *err)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&address->storage;
    if (path.size == 0 || memchr(path.data, '\0', path.size))
        return err_set(err, ERR_BAD_INPUT, "%s: unix: wants a path behind it", flag);
    if (path.size >= sizeof local->sun_path)
        return err_set(err, ERR_BAD_INPUT, "%s: the socket's path '%s' has %zu bytes; at most %zu",
                       flag, ERR_SLICE(path), path.size, sizeof local->sun_path - 1);
    local->sun_family = AF_UNIX;
    memcpy(local->sun_path, path.data, path.size);
    address->size = sizeof *local;
    return 0;
}

/* The text from the parsed address, so that one address has one form. */
static void print(const struct sockaddr_storage *storage, char text[static LISTEN_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "";
    const struct sockaddr_in *four = (const struct sockaddr_in *)storage;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)storage;
    const struct sockaddr_un *local = (const struct sockaddr_un *)storage;
    static_assert(sizeof local->sun_path + sizeof "unix:" <= LISTEN_TEXT_BYTES);
    switch (storage->ss_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        (void)snprintf(text, LISTEN_TEXT_BYTES, "%s:%u", host, ntohs(four->sin_port));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        (void)snprintf(text, LISTEN_TEXT_BYTES, "[%s]:%u", host, ntohs(six->sin6_port));
        break;
    default:
        (void)snprintf(text, LISTEN_TEXT_BYTES, "unix:%s", local->sun_path);
    }
}

static int parse_one(const char *flag, struct slice text, struct listen_address *ret_address,
                     struct err *err)
{
    struct listen_address address = {};
    struct slice prefix = SLICE("unix:");
    if (slice_starts(text, prefix)) {
        struct slice path = { text.data + prefix.size, text.size - prefix.size };
        int r = parse_unix(flag, path, &address, err);
        if (r < 0)
            return r;
    } else if (parse_tcp(text, &address) < 0) {
        return err_set(err, ERR_BAD_INPUT,
                       "%s: '%s' is no address; it takes ADDR:PORT, [::1]:PORT, unix:PATH or none",
                       flag, ERR_SLICE(text));
    }
    print(&address.storage, address.text);
    *ret_address = address;
    return 0;
}

int listen_parse(const char *flag, const char *text,
                 struct listen_address ret_addresses[static LISTEN_ADDRESSES_MAX],
                 size_t *ret_count, struct err *err)
{
    struct slice rest = slice_of(text);
    size_t count = 0;
    if (slice_is(slice_trim(rest), "none")) {
        *ret_count = 0;
        return 0;
    }
    do {
        struct slice one = slice_trim(slice_cut(&rest, ','));
        if (count == LISTEN_ADDRESSES_MAX)
            return err_set(err, ERR_BAD_INPUT, "%s: more than %d addresses", flag,
                           LISTEN_ADDRESSES_MAX);
        int r = parse_one(flag, one, &ret_addresses[count], err);
        if (r < 0)
            return r;
        count++;
    } while (rest.data);
    *ret_count = count;
    return 0;
}

bool listen_loopback(const struct listen_address *address)
{
    const struct sockaddr_in *four = (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&address->storage;
    switch (address->storage.ss_family) {
    case AF_INET:
        return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr) && six->sin6_addr.s6_addr[12] == 127);
    default:
        return true;
    }
}

/* "--listen-x (or $PERIGEE_LISTEN_X)": each flag of these has a variable of its name. */
static const char *both_ways(const char *flag, char ret[static BOTH_WAYS_BYTES])
{
    if (strncmp(flag, "--listen-", strlen("--listen-")) != 0) {
        (void)snprintf(ret, BOTH_WAYS_BYTES, "%s", flag);
        return ret;
    }
    int size = snprintf(ret, BOTH_WAYS_BYTES, "%s (or $PERIGEE", flag);
    for (const char *at = flag + 1; *at && size < BOTH_WAYS_BYTES - 2; at++)
        ret[size++] = *at == '-' ? '_' : (char)(*at - ('a' - 'A'));
    (void)snprintf(ret + size, BOTH_WAYS_BYTES - (size_t)size, ")");
    return ret;
}

static int bind_error(const char *flag, const struct listen_address *address, bool udp, int error,
                      struct err *err)
{
    char owner[128] = "", ways[BOTH_WAYS_BYTES];
    flag = both_ways(flag, ways);
    switch (error) {
    case EADDRINUSE:
        listen_owner(address, udp, owner, sizeof owner);
        return err_set(err, ERR_CONFLICT, "%s%s is taken%s; %s moves it", address->text,
                       udp ? " (UDP)" : "", owner, flag);
    case EADDRNOTAVAIL:
        return err_set(err, ERR_BAD_INPUT, "this machine has no address %s; %s names another",
                       address->text, flag);
    case EACCES:
        return err_set(err, ERR_FORBIDDEN,
                       "listening on %s is not allowed for this user (ports below 1024 want a "
                       "privilege); %s moves it",
                       address->text, flag);
    default:
        return err_set(err, ERR_INTERNAL, "listening on %s: %s; %s moves it", address->text,
                       strerror(error), flag);
    }
}

/* The option after the bind, so that the first bind fails where anybody listens; before listen(),
 * where the kernel makes the group of sockets. */
static int open_tcp(const struct listen_address *address, bool first, int *ret_fd)
{
    int on = 1;
    auto_close int fd =
        socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -1;
    if (address->storage.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (!first && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0)
        return -1;
    if (first && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        return -1;
    if (listen(fd, BACKLOG) < 0)
        return -1;
    *ret_fd = take_fd(fd);
    return 0;
}

/* A socket's file whose listener is gone is in the way and of no use. */
static void remove_stale(const struct listen_address *address)
{
    const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    auto_close int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe >= 0 &&
        connect(probe, (const struct sockaddr *)&address->storage, address->size) < 0 &&
        errno == ECONNREFUSED)
        (void)unlink(path);
}

static int open_unix(const struct listen_address *address, int *ret_fd)
{
    remove_stale(address);
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    mode_t mask = umask(0177); /* nobody else may connect, from the first moment */
    int r = bind(fd, (const struct sockaddr *)&address->storage, address->size);
    int error = errno;
    (void)umask(mask);
    errno = error;
    if (r < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    *ret_fd = take_fd(fd);
    return 0;
}

int listen_open(const char *flag, const struct listen_address *address, unsigned sockets,
                struct listen_set *ret_set, struct err *err)
{
    assert(sockets > 0 && sockets <= LISTEN_SET_MAX);
    struct listen_set set = {};
    struct listen_address bound = *address;
    bool local = address->storage.ss_family == AF_UNIX;
    for (unsigned i = 0; i < (local ? 1 : sockets); i++) {
        int r = local ? open_unix(&bound, &set.fds[i]) : open_tcp(&bound, i == 0, &set.fds[i]);
        if (r < 0) {
            int error = errno;
            listen_close(&set);
            return bind_error(flag, &bound, false, error, err);
        }
        set.count++;
        if (i == 0 && !local) { /* port 0 is chosen once; the rest bind the same */
            bound.size = sizeof bound.storage;
            (void)getsockname(set.fds[0], (struct sockaddr *)&bound.storage, &bound.size);
            print(&bound.storage, bound.text);
        }
    }
    memcpy(set.text, bound.text, sizeof set.text);
    *ret_set = set;
    return 0;
}

/* Room for a burst while the server's loop is elsewhere: some 20,000 questions. */
static int open_udp(const struct listen_address *address, int *ret_fd)
{
    int on = 1, room = 4 << 20;
    auto_close int fd =
        socket(address->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (address->storage.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room); /* the kernel cuts it */
    if (bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0)
        return -1;
    *ret_fd = take_fd(fd);
    return 0;
}

static uint16_t port_of(const struct listen_address *address)
{
    return address->storage.ss_family == AF_INET6
               ? ((const struct sockaddr_in6 *)&address->storage)->sin6_port
               : ((const struct sockaddr_in *)&address->storage)->sin_port;
}

int listen_open_dns(const char *flag, const struct listen_address *address,
                    struct listen_set *ret_set, struct err *err)
{
    enum { TRIES = 20 }; /* port 0: one that TCP finds free UDP may not */
    struct listen_address bound = *address;
    struct listen_set set;
    if (address->storage.ss_family == AF_UNIX)
        return err_set(err, ERR_BAD_INPUT, "%s: DNS has no Unix sockets; it takes ADDR:PORT", flag);
    for (unsigned i = 0; i < TRIES; i++) {
        int r = listen_open(flag, address, 1, &set, err);
        if (r < 0)
            return r;
        bound.size = sizeof bound.storage;
        (void)getsockname(set.fds[0], (struct sockaddr *)&bound.storage, &bound.size);
        if (open_udp(&bound, &set.fds[1]) == 0) {
            set.count = 2;
            *ret_set = set;
            return 0;
        }
        int error = errno;
        listen_close(&set);
        print(&bound.storage, bound.text);
        if (port_of(address) != 0 || error != EADDRINUSE)
            return bind_error(flag, &bound, true, error, err);
    }
    return bind_error(flag, &bound, true, EADDRINUSE, err);
}

void listen_close(struct listen_set *set)
{
    if (set->count && strncmp(set->text, "unix:", 5) == 0)
        (void)unlink(set->text + 5);
    for (unsigned i = 0; i < set->count; i++)
        fd_close(&set->fds[i]);
    set->count = 0;
}
