/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terms on which a client wants its answer: until when, and before whom. Of several deadlines
 * the earliest counts, of two classes the lower: whoever stands before a client may make its
 * requests yield, and a client those of its own that can wait.
 */
#include "base/err.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "proto/grpc.h"
#include "proto/hop.h"
#include "spec/units.h"

static int deadline_set(struct request *request, uint64_t ns, struct err *err)
{
    if (ns == 0)
        return err_set(err, ERR_BAD_INPUT, "it must be above 0");
    if (ns >= (uint64_t)INT64_MAX / 4) /* as good as none */
        return 0;
    int64_t due = request->arrived_ns - request->spent_ns + (int64_t)ns;
    if (!request->deadline_ns || due < request->deadline_ns)
        request->deadline_ns = due;
    return 0;
}

static int timeout_read(struct request *request, struct slice value, struct err *err)
{
    uint64_t ns;
    int r = units_parse_time(value, &ns, err);

    return r < 0 ? r : deadline_set(request, ns, err);
}

static int grpc_timeout_read(struct request *request, struct slice value, struct err *err)
{
    uint64_t ns;
    int r = grpc_timeout_parse(value, &ns, err);

    return r < 0 ? r : deadline_set(request, ns, err);
}

static int priority_read(struct request *request, struct slice value, struct err *err)
{
    if (slice_is(value, "interactive"))
        return 0;
    if (!slice_is(value, "batch"))
        return err_set(err, ERR_BAD_INPUT, "'%s' is neither 'interactive' nor 'batch'",
                       ERR_SLICE(value));
    request->waiter.class = QUEUE_BATCH;
    return 0;
}

/* What it says is asked for once its endpoint's residency is (residency.c). */
static int process_in_read(struct request *request, struct slice value, struct err *err)
{
    (void)err;
    request->process_in = value;
    return 0;
}

static int hop_read(struct request *request, struct slice value, struct err *err)
{
    return forward_hop_read(request, value, err);
}

/* Any other `Perigee-` header is refused by name: what is not built yet, and what is misspelt. A
 * residency that is not heard would be worse than an error. */
static const struct {
    struct slice name;
    int (*read)(struct request *request, struct slice value, struct err *err); /* NULL: elsewhere */
} headers_known[] = {
    { SLICE("Perigee-Endpoint"), NULL },           { SLICE("Perigee-Process-In"), process_in_read },
    { SLICE("Perigee-Timeout"), timeout_read },    { SLICE("Perigee-Priority"), priority_read },
    { SLICE("grpc-timeout"), grpc_timeout_read },  { SLICE(HOP_HEADER), hop_read },
    { SLICE("Perigee-Revision"), traffic_header },
};
enum { HEADERS_KNOWN = sizeof headers_known / sizeof *headers_known };

static int header_read(struct request *request, const struct http_header *header, unsigned *seen,
                       struct err *err)
{
    struct slice name = header->name, start = { name.data, name.size < 8 ? name.size : 8 };

    for (unsigned i = 0; i < HEADERS_KNOWN; i++) {
        if (!slice_equal_nocase(name, headers_known[i].name))
            continue;
        if (*seen & 1u << i) {
            if (headers_known[i].read == hop_read) /* as one that is not right */
                exchange_close_after(request->x);
            return err_set(err, ERR_BAD_INPUT, "the header %s came twice", ERR_SLICE(name));
        }
        *seen |= 1u << i;
        if (headers_known[i].read && headers_known[i].read(request, header->value, err) < 0)
            return err_wrap(err, "%s", headers_known[i].name.data);
        return 0;
    }
    if (slice_equal_nocase(start, SLICE("Perigee-")))
        return err_set(err, ERR_NOT_SUPPORTED, "the header %s is not supported yet",
                       ERR_SLICE(name));
    return 0;
}

int terms_headers(struct request *request, struct err *err)
{
    const struct http_headers *headers = &exchange_request(request->x)->headers;
    unsigned seen = 0;

    for (size_t i = 0; i < headers->count; i++) {
        char first = headers->items[i].name.size ? headers->items[i].name.data[0] : '\0';
        if (first != 'P' && first != 'p' && first != 'G' && first != 'g')
            continue;
        int r = header_read(request, &headers->items[i], &seen, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* priority: 1 is interactive, any higher number batch; 0 of either is as if it was not said. */
void terms_parameters(struct request *request)
{
    const struct oip_request *oip = &request->oip;
    uint64_t ns;

    if (oip->has_priority && oip->priority > 1)
        request->waiter.class = QUEUE_BATCH;
    if (oip->has_timeout && !__builtin_mul_overflow(oip->timeout_us, UINT64_C(1000), &ns))
        (void)deadline_set(request, ns, NULL);
}
