/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "dns/peer.h"
#include "dns/server.h"
#include "io/loop.h"
#include "io/socket.h"

/* A question is some 60 bytes; one that does not fit is cut, and badly formed. */
enum { BATCH = 64, QUESTION_BYTES = 2048, BATCHES_A_TURN = 16, CONTROL_BYTES = 64 };

struct datagram {
    struct sockaddr_storage peer;
    struct iovec in, out;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_BYTES];
    uint8_t question[QUESTION_BYTES], answer[DNS_UDP_BYTES_MAX];
};

struct dns_udp {
    struct dns_server *server;
    struct loop *loop;
    int fd;
    struct watch *watch;
    struct ip local; /* bound to; else each datagram says it */
    bool everywhere;
    struct metric_series *unsent;
    struct mmsghdr in[BATCH], out[BATCH];
    struct datagram datagrams[BATCH];
};

/* ---- the address that was asked ----------------------------------------------------------- */

static bool local_of(struct msghdr *head, struct ip *ret)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(head); at; at = CMSG_NXTHDR(head, at)) {
        if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(at);
            *ret = ip_from4((const uint8_t *)&info->ipi_addr);
            info->ipi_spec_dst = info->ipi_addr; /* and so the answer leaves from there */
            info->ipi_ifindex = 0;
            return true;
        }
        if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *info = (struct in6_pktinfo *)CMSG_DATA(at);
            memcpy(ret->bytes, &info->ipi6_addr, sizeof ret->bytes);
            if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
                info->ipi6_ifindex = 0;
            return true;
        }
    }
    return false;
}

/* ---- a batch ------------------------------------------------------------------------------ */

static int receive(struct dns_udp *udp)
{
    for (unsigned i = 0; i < BATCH; i++) {
        struct datagram *datagram = &udp->datagrams[i];
        udp->in[i].msg_hdr = (struct msghdr){
            .msg_name = &datagram->peer,
            .msg_namelen = sizeof datagram->peer,
            .msg_iov = &datagram->in,
            .msg_iovlen = 1,
            .msg_control = udp->everywhere ? datagram->control : NULL,
            .msg_controllen = udp->everywhere ? CONTROL_BYTES : 0,
        };
    }
    int count;
    do
        count = recvmmsg(udp->fd, udp->in, BATCH, MSG_DONTWAIT, NULL);
    while (count < 0 && errno == EINTR);
    return count;
}

static bool answer(struct dns_udp *udp, struct mmsghdr *in, struct datagram *datagram,
                   struct dns_arrival *arrival)
{
    if (!dns_peer_ip(&datagram->peer, &arrival->address))
        return false;
    arrival->local = udp->local;
    arrival->local_known = !udp->everywhere || local_of(&in->msg_hdr, &arrival->local);
    datagram->out.iov_len = dns_server_answer(udp->server, arrival, datagram->question, in->msg_len,
                                              datagram->answer, sizeof datagram->answer);
    return datagram->out.iov_len > 0;
}

/* What the kernel does not take now is lost, as datagrams are: who waits asks again. */
static void reply(struct dns_udp *udp, unsigned count)
{
    for (unsigned at = 0; at < count;) {
        int sent = sendmmsg(udp->fd, udp->out + at, count - at, MSG_DONTWAIT);
        if (sent > 0) {
            at += (unsigned)sent;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            metric_add(udp->unsent, count - at);
            return;
        } else if (errno != EINTR) {
            metric_add(udp->unsent, 1);
            at++; /* that one alone */
        }
    }
}

static void on_event(struct watch *, unsigned, void *data)
{
    struct dns_udp *udp = data;
    for (unsigned turn = 0; turn < BATCHES_A_TURN; turn++) {
        int count = receive(udp);
        struct dns_arrival arrival = { .now_ns = loop_now_ns(), .wall_s = (uint32_t)loop_wall_s() };
        unsigned answers = 0;
        for (int i = 0; i < count; i++) {
            struct mmsghdr *in = &udp->in[i];
            struct datagram *datagram = &udp->datagrams[i];
            if (!answer(udp, in, datagram, &arrival))
                continue;
            udp->out[answers].msg_hdr = in->msg_hdr;
            udp->out[answers++].msg_hdr.msg_iov = &datagram->out;
        }
        reply(udp, answers);
        if (count < BATCH)
            return;
    }
}

/* ---- life --------------------------------------------------------------------------------- */

struct dns_udp *dns_udp_new(struct loop *loop, struct dns_server *server, int fd)
{
    struct dns_udp *udp = mem_zalloc(sizeof *udp);
    int on = 1;
    udp->server = server;
    udp->loop = loop;
    udp->fd = fd;
    udp->everywhere = !dns_local_ip(fd, &udp->local);
    if (udp->everywhere) { /* one of the two is not this family's */
        (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    }
    udp->unsent = dns_server_series(server, DNS_UNSENT, NULL);
    for (unsigned i = 0; i < BATCH; i++) {
        struct datagram *datagram = &udp->datagrams[i];
        datagram->in = (struct iovec){ datagram->question, QUESTION_BYTES };
        datagram->out = (struct iovec){ datagram->answer, 0 };
    }
    udp->watch = watch_new(loop, fd, WATCH_READ, on_event, udp);
    return udp;
}

void dns_udp_free(struct dns_udp *udp)
{
    if (!udp)
        return;
    watch_free(udp->watch);
    free(udp);
}
