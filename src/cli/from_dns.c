/* SPDX-License-Identifier: Apache-2.0 */
/* What our DNS says to a client of `infer --from`. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/from_own.h"
#include "sys/fd.h"

enum {
    DNS_TRIES = 3,
    DNS_WAIT_MS = 2000,
};

/* For one packet; above 0, as 0 is for ever. */
static struct timeval wait_of(const struct from *from)
{
    int64_t ms = from_left_ms(from);
    ms = ms > DNS_WAIT_MS ? DNS_WAIT_MS : ms < 1 ? 1 : ms;
    return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

static int dial(const struct from *from, int type, int *ret_fd, struct err *err)
{
    struct sockaddr_storage storage;
    socklen_t size = address_to(&from->server, &storage);
    const struct timeval wait = wait_of(from);
    char text[ADDRESS_TEXT_BYTES];
    auto_close int fd = socket(storage.ss_family, type | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -1 : 0;
    if (r == 0 && from->bound && !from->with_subnet &&
        ip_is4(&from->source) == (from->server.kind == ADDRESS_IP4)) {
        struct address source;
        struct sockaddr_storage own;
        address_from_ip(&from->source, 0, &source);
        socklen_t own_size = address_to(&source, &own);
        r = bind(fd, (struct sockaddr *)&own, own_size);
    }
    if (r == 0)
        r = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (r == 0)
        r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (r == 0)
        r = connect(fd, (struct sockaddr *)&storage, size);
    if (r < 0)
        return err_set(err, ERR_OVERLOADED, "asking DNS at %s: %s",
                       address_text(&from->server, text), strerror(errno));
    *ret_fd = take_fd(fd);
    return 0;
}

static int ask_udp(const struct from *from, const struct dns_ask *ask, uint8_t *buffer,
                   struct dns_answer *ret, struct err *err)
{
    uint8_t question[DNS_ASK_BYTES_MAX];
    char text[ADDRESS_TEXT_BYTES];
    auto_close int fd = -1;
    int r = dial(from, SOCK_DGRAM, &fd, err);
    for (int try = 0; r == 0 && try < DNS_TRIES && from_left_ms(from) > 0; try++) {
        const struct timeval wait = wait_of(from);
        (void)!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        (void)!send(fd, question, dns_ask_write(ask, question), MSG_NOSIGNAL);
        ssize_t got;
        while ((got = recv(fd, buffer, DNS_TCP_BYTES_MAX, 0)) > 0 && from_left_ms(from) > 0) {
            r = dns_answer_read(ask, buffer, (size_t)got, ret, err);
            if (r != ERR_NOT_FOUND)
                return r;
            r = 0;
        }
        if (got < 0 && errno == ECONNREFUSED)
            break;
    }
    return r < 0 ? r
                 : err_set(err, ERR_OVERLOADED, "no answer of DNS at %s",
                           address_text(&from->server, text));
}

static bool receive_all(const struct from *from, int fd, uint8_t *to, size_t bytes)
{
    while (bytes && from_left_ms(from) > 0) {
        ssize_t got = recv(fd, to, bytes, 0);
        if (got <= 0)
            return false;
        to += got;
        bytes -= (size_t)got;
    }
    return bytes == 0;
}

static int ask_tcp(const struct from *from, const struct dns_ask *ask, uint8_t *buffer,
                   struct dns_answer *ret, struct err *err)
{
    uint8_t question[2 + DNS_ASK_BYTES_MAX], length[2];
    size_t bytes = dns_ask_write(ask, question + 2);
    question[0] = (uint8_t)(bytes >> 8);
    question[1] = (uint8_t)bytes;
    auto_close int fd = -1;
    int r = dial(from, SOCK_STREAM, &fd, err);
    if (r < 0)
        return r;
    if (send(fd, question, bytes + 2, MSG_NOSIGNAL) != (ssize_t)bytes + 2 ||
        !receive_all(from, fd, length, 2))
        return err_set(err, ERR_OVERLOADED, "no answer of DNS over TCP");
    bytes = (size_t)length[0] << 8 | length[1];
    if (!receive_all(from, fd, buffer, bytes))
        return err_set(err, ERR_OVERLOADED, "DNS broke its answer off");
    return dns_answer_read(ask, buffer, bytes, ret, err);
}

static int ask_dns(const struct from *from, const char *name, uint16_t type, bool tcp,
                   struct dns_answer *ret, struct err *err)
{
    struct dns_ask ask = { .type = type, .with_subnet = from->with_subnet, .subnet = from->subnet };
    uint8_t *buffer = arena_alloc(from->cli->arena, DNS_TCP_BYTES_MAX);
    int r = dns_name_parse(slice_of(name), &ask.name, err);
    if (r == 0 && getrandom(&ask.id, sizeof ask.id, 0) != sizeof ask.id)
        r = err_set(err, ERR_INTERNAL, "no random bytes: %s", strerror(errno));
    dns_name_lower(ask.name.bytes, ask.name.size);
    if (r == 0 && !tcp)
        r = ask_udp(from, &ask, buffer, ret, err);
    if (r == 0 && (tcp || ret->truncated))
        r = ask_tcp(from, &ask, buffer, ret, err);
    return r;
}

int from_resolve(struct from *from, struct err *err)
{
    static const char *const rcodes[16] = {
        [DNS_SERVFAIL] = "the server knows nothing yet",
        [DNS_NXDOMAIN] = "there is no such name",
        [DNS_REFUSED] = "not in the server's zone",
    };
    struct dns_answer v6 = { .ede = DNS_EDE_NONE };
    int r = ask_dns(from, from->host, DNS_A, false, &from->answer, err);
    if (r == 0 && from->answer.rcode == DNS_NOERROR && from->answer.ip_count == 0) {
        if (ask_dns(from, from->host, DNS_AAAA, false, &v6, err) == 0 && v6.ip_count)
            from->answer = v6;
    }
    from->at = 0;
    if (r < 0 || from->answer.ip_count)
        return r;
    const char *why = from->answer.rcode ? rcodes[from->answer.rcode] : "no PoP is named";
    if (from->answer.ede != DNS_EDE_NONE && from->answer.ede_text.size)
        return err_set(err, ERR_NOT_FOUND, "DNS names nothing for %s: %s (%s)", from->host,
                       ERR_SLICE(from->answer.ede_text), why ? why : "refused");
    return err_set(err, ERR_NOT_FOUND, "DNS names nothing for %s: %s", from->host,
                   why ? why : "refused");
}

/* Rows of _why: who asked, words, then PoPs as "NAME: ...", the best first. */
void from_why_find(struct from *from)
{
    struct dns_answer answer = {};
    struct err ignored;
    if (ask_dns(from, arena_format(from->cli->arena, "_why.%s", from->host), DNS_TXT, true, &answer,
                &ignored) < 0)
        return;
    for (size_t i = 1; i < answer.text_count && !from->why; i++)
        if (memchr(answer.texts[i].data, ':', answer.texts[i].size) &&
            !slice_starts(answer.texts[i], SLICE("residency")))
            from->why = arena_string(from->cli->arena, answer.texts[i]);
}
