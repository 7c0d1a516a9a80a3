/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/server.h"

#include <stdio.h>

#include "base/err.h"
#include "dns/memo.h"
#include "dns/rate.h"
#include "dns/resolve.h"
#include "dns/view.h"

enum { AMPLIFICATION_MAX = 3 };

int dns_server_init(struct dns_server *server, struct metrics *metrics, struct err *err)
{
    int r = dns_codec_new(&server->codec, err);
    if (r < 0)
        return r;
    server->rate = dns_rate_new();
    server->memo = dns_memo_new();
    server->metrics = metrics;
    return 0;
}

void dns_server_deinit(struct dns_server *server)
{
    dns_codec_free(server->codec);
    dns_rate_free(server->rate);
    dns_memo_free(server->memo);
    server->codec = NULL;
    server->rate = NULL;
    server->memo = NULL;
}

void dns_server_set_view(struct dns_server *server, const struct dns_view *view)
{
    if (!view->follows || view->follows != server->view)
        dns_memo_clear(server->memo);
    server->view = view;
}

/* ---- counting ----------------------------------------------------------------------------- */

struct metric_series *dns_server_series(struct dns_server *server, enum dns_metrics_row row,
                                        const char *label)
{
    struct slice value = slice_of(label ? label : "");
    return metrics_series(server->metrics, row, label ? &value : NULL);
}

static void count(struct dns_server *server, enum dns_metrics_row row, const char *label)
{
    metric_add(dns_server_series(server, row, label), 1);
}

static const char *rcode_text(uint16_t rcode)
{
    switch (rcode) {
    case DNS_NOERROR:
        return "NOERROR";
    case DNS_FORMERR:
        return "FORMERR";
    case DNS_SERVFAIL:
        return "SERVFAIL";
    case DNS_NXDOMAIN:
        return "NXDOMAIN";
    case DNS_NOTIMP:
        return "NOTIMP";
    case DNS_REFUSED:
        return "REFUSED";
    case DNS_NOTAUTH:
        return "NOTAUTH";
    case DNS_BADVERS:
        return "BADVERS";
    default:
        return "OTHER";
    }
}

static void count_answer(struct dns_server *server, bool tcp, uint16_t rcode)
{
    struct metric_series **series = &server->answers[tcp][rcode < DNS_RCODES ? rcode : 0];
    if (!*series) {
        struct slice labels[] = { tcp ? SLICE("tcp") : SLICE("udp"), slice_of(rcode_text(rcode)) };
        *series = metrics_series(server->metrics, DNS_ANSWERS, labels);
    }
    metric_add(*series, 1);
}

static void count_reply(struct dns_server *server, const struct dns_reply *reply)
{
    if (reply->rcode != DNS_NOERROR || reply->ede == DNS_EDE_NONE)
        return;
    count(server, DNS_NOWHERE,
          reply->ede == DNS_EDE_PROHIBITED  ? "prohibited"
          : reply->ede == DNS_EDE_NOT_READY ? "not_ready"
                                            : "other");
}

/* ---- answering ---------------------------------------------------------------------------- */

static bool may_ask_why(const struct dns_server *server, const struct ip *ip)
{
    for (size_t i = 0; i < server->why_count; i++)
        if (ip_block_has(&server->why_from[i], ip))
            return true;
    return false;
}

static void make_reply(struct dns_server *server, const struct dns_arrival *arrival,
                       const struct dns_question *question)
{
    struct dns_reply *reply = &server->reply;
    struct dns_asker asker = {
        .address = arrival->address,
        .local = arrival->local,
        .local_known = arrival->local_known,
        .memo = server->memo,
        .why_allowed = may_ask_why(server, &arrival->address),
    };
    if (question->rcode == DNS_NOERROR && !question->asked) { /* a cookie is all that is wanted */
        dns_reply_init(reply, DNS_NOERROR);
        return;
    }
    if (question->rcode == DNS_NOERROR) {
        dns_resolve(server->view, question, &asker, reply);
        count_reply(server, reply);
        return;
    }
    dns_reply_init(reply, question->rcode);
    dns_reply_explain(reply, DNS_EDE_OTHER, "%s", question->fault);
}

/* True: it has shown a cookie of ours, so that its address is its own. */
static bool mind_cookie(struct dns_server *server, const struct dns_arrival *arrival,
                        const struct dns_question *question)
{
    if (!question->cookie.present)
        return false;
    bool right = dns_cookie_right(server->codec, server->secret, &question->cookie,
                                  &arrival->address, arrival->wall_s);
    count(server, DNS_COOKIES, right ? "right" : "new");
    return right;
}

size_t dns_server_answer(struct dns_server *server, const struct dns_arrival *arrival,
                         const uint8_t *message, size_t bytes, uint8_t *buffer, size_t room)
{
    struct dns_question question;
    struct err err;
    bool limited = false;
    if (dns_question_read(server->codec, message, bytes, &question, &err) < 0) {
        count(server, DNS_DROPPED, NULL);
        return 0;
    }
    if (!arrival->tcp && room > question.payload)
        room = question.payload;
    if (!mind_cookie(server, arrival, &question) && !arrival->tcp)
        limited = !dns_rate_pass(server->rate, &arrival->address, arrival->now_ns);
    if (limited) {
        count(server, DNS_LIMITED, NULL);
        room = room < AMPLIFICATION_MAX * bytes ? room : AMPLIFICATION_MAX * bytes;
    }
    make_reply(server, arrival, &question);
    if (question.subnet.present)
        count(server, DNS_SUBNETS, NULL);
    if (question.cookie.present) {
        server->reply.cookie_given = true;
        dns_cookie_make(server->codec, server->secret, &question.cookie, &arrival->address,
                        arrival->wall_s, server->reply.cookie);
    }
    size_t size = dns_reply_write(server->codec, &question, &server->reply, buffer, room);
    count_answer(server, arrival->tcp, server->reply.rcode);
    if (dns_truncated(buffer))
        count(server, DNS_TRUNCATED, limited ? "rate" : "size");
    return size;
}
