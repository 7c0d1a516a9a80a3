/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/dns.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/dns_metrics.h"
#include "contract/mesh.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "dns/follow.h"
#include "dns/server.h"
#include "dns/tcp.h"
#include "dns/today.h"
#include "dns/udp.h"
#include "dns/view.h"
#include "dns/young.h"
#include "geo/where.h"
#include "geo/where_file.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/channel.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/shm.h"

static struct where_map *prepared; /* by dns_prepare(); of this process */

enum { SOCKETS_MAX = 32, WHY_MAX = 16, TABLE_AGAIN_MS = 500 };

struct dns_mesh { /* mapped; head NULL: none */
    const struct mesh_head *head;
    size_t bytes;
};

struct dns {
    struct loop *loop;
    struct channel *supervisor;
    struct watch *supervisor_watch, *lifeline_watch;
    int lifeline;
    bool started, going, done;
    int status;
    struct message_start start;
    struct dns_node node;
    struct timer *stable; /* a new view, once the PoP is */
    struct timer *old;    /* likewise, once what is measured is too old */
    struct timer *grown;  /* likewise, once no endpoint is young */
    struct timer *again;  /* a table for which there was no memory: */
    int table_later;      /* -1: none */
    struct dns_young young;
    struct dns_mesh mesh;          /* the newest */
    struct dns_mesh seen;          /* that the view was made of; may be the newest */
    int64_t view_ns, view_cost_ns; /* when it was made, and how long that took */
    int sockets[SOCKETS_MAX];
    size_t socket_count;
    struct dns_udp *udp[SOCKETS_MAX];
    size_t udp_count;
    struct dns_tcp *tcp;
    struct dns_server server;
    struct dns_https_told https;
    struct ip_block why_from[WHY_MAX];
    size_t why_count;
    struct metrics metrics;
    void *region;
    size_t region_bytes;
    bool region_mapped;
    const struct table_head *table; /* the view's; mapped, or the heap's */
    size_t table_bytes;
    bool table_mapped;
    struct dns_view *view;
};

static void finish(struct dns *dns, int status)
{
    dns->status = status;
    dns->done = true;
    loop_stop(dns->loop);
}

static void unknown(const char *why)
{
    log_warn("dns", "message dropped", LOG_S("why", why));
}

/* ---- tables and views --------------------------------------------------------------------- */

static void table_free(const struct table_head *table, size_t bytes, bool mapped)
{
    if (mapped)
        shm_unmap((void *)(uintptr_t)table, bytes);
    else
        free((void *)(uintptr_t)table);
}

static void mesh_free(struct dns_mesh mesh)
{
    shm_unmap((void *)(uintptr_t)mesh.head, mesh.bytes);
}

/* What the view was made of is kept, to be compared with. */
static void mesh_seen(struct dns *dns, bool used)
{
    struct dns_mesh before = dns->seen;
    dns->seen = used ? dns->mesh : (struct dns_mesh){};
    if (before.head != dns->mesh.head)
        mesh_free(before);
}

static bool view_renew(struct dns *dns, const struct table_head *table)
{
    struct dns_view *view;
    struct err err;
    int64_t up_ns = loop_now_ns() - dns->start.started_ns;
    int64_t stable_ns = DNS_STABLE_S * ENV_S;
    dns->node.stable = up_ns >= stable_ns;
    dns->node.map = prepared;
    dns->view_ns = loop_now_ns();
    dns->node.mesh = mesh_fresh(dns->mesh.head, dns->view_ns) ? dns->mesh.head : NULL;
    dns->node.young = &dns->young;
    dns->node.now_ns = dns->view_ns;
    if (dns->young.until_ns > dns->view_ns)
        timer_start(dns->grown, (dns->young.until_ns - dns->view_ns) / ENV_MS + 1);
    if (!dns->node.stable)
        timer_start(dns->stable, (stable_ns - up_ns) / ENV_MS + 1);
    if (dns_view_today(table, &dns->node, &view, &err) < 0) {
        log_error("dns", "table not understood, keeping the one there is",
                  LOG_S("why", err.message));
        return false;
    }
    if (dns->view)
        dns_view_follow(view, dns->view);
    dns_server_set_view(&dns->server, view);
    dns_view_free(dns->view);
    dns->view = view;
    dns->view_cost_ns = loop_now_ns() - dns->view_ns;
    mesh_seen(dns, dns->node.mesh != NULL);
    metric_set(dns_server_series(&dns->server, DNS_TABLE, NULL), (int64_t)table->number);
    return true;
}

static void on_stable(void *data)
{
    struct dns *dns = data;
    if (dns->table)
        (void)view_renew(dns, dns->table);
}

static void on_grown(void *data)
{
    struct dns *dns = data;
    if (dns->table)
        (void)view_renew(dns, dns->table);
}

static void on_old(void *data)
{
    struct dns *dns = data;
    log_warn("dns", "nothing is measured any more, going by what control says");
    if (dns->table && dns->seen.head)
        (void)view_renew(dns, dns->table);
}

/* One comes each second, and the view of a thousand endpoints is work, in which nobody is answered:
 * a new one is made where somebody would choose otherwise; for what loads alone have changed it may
 * take a twentieth of the time. */
static bool view_wanted(const struct dns *dns, const struct mesh_head *mesh)
{
    enum { VIEW_SHARE = 20 };
    const struct mesh_head *seen = dns->seen.head;
    int64_t now_ns = loop_now_ns();
    bool fresh = mesh_fresh(mesh, now_ns);
    if (!seen || !fresh)
        return seen || fresh;
    return mesh_health_differs(seen, mesh) ||
           (now_ns - dns->view_ns >= dns->view_cost_ns * VIEW_SHARE && mesh_differs(seen, mesh));
}

static void mesh_set(struct dns *dns, struct dns_mesh mesh)
{
    struct dns_mesh before = dns->mesh;
    bool wanted = view_wanted(dns, mesh.head);
    dns->mesh = mesh;
    if (before.head != dns->seen.head)
        mesh_free(before);
    if (mesh_fresh(mesh.head, loop_now_ns()))
        timer_start(dns->old, MESH_FRESH_NS / ENV_MS + 1);
    if (wanted && dns->table)
        (void)view_renew(dns, dns->table);
}

static void mesh_new(struct dns *dns, int fd)
{
    struct slice mesh;
    struct err err;
    if (shm_map_checked(fd, MESH_BYTES_MAX, mesh_check, &mesh, &err) < 0)
        log_error("dns", "what PoPs measure is refused, keeping what there is",
                  LOG_S("why", err.message));
    else
        mesh_set(dns, (struct dns_mesh){ (const void *)mesh.data, mesh.size });
}

static void table_set(struct dns *dns, const void *table, size_t bytes, bool mapped)
{
    dns_young_table(&dns->young, table, loop_now_ns());
    if (!view_renew(dns, table)) {
        table_free(table, bytes, mapped);
        return;
    }
    table_free(dns->table, dns->table_bytes, dns->table_mapped);
    dns->table = table;
    dns->table_bytes = bytes;
    dns->table_mapped = mapped;
}

/* One that is right, and that cannot be mapped just now, is kept: nobody sends it again. */
static void table_new(struct dns *dns, int *fd)
{
    struct slice table;
    struct err err;
    int r = shm_map_checked(*fd, TABLE_BYTES_MAX, table_check, &table, &err);
    timer_stop(dns->again);
    fd_close(&dns->table_later);
    if (r == 0) {
        table_set(dns, table.data, table.size, true);
    } else if (r == ERR_INTERNAL) {
        log_error("dns", "no memory for a new table, trying again", LOG_S("why", err.message));
        dns->table_later = take_fd(*fd);
        timer_start(dns->again, TABLE_AGAIN_MS);
    } else {
        log_error("dns", "table refused, keeping the one there is", LOG_S("why", err.message));
    }
}

static void on_again(void *data)
{
    struct dns *dns = data;
    auto_close int fd = take_fd(dns->table_later);
    table_new(dns, &fd);
}

/* The agent's file of before the boot: good until the agent publishes. */
static void table_disk(struct dns *dns, int table_fd, int key_fd)
{
    struct slice table;
    struct err err;
    char *data;

    if (dns->table)
        return;
    if (table_read_file(table_fd, key_fd, &data, &table, &err) < 0) {
        log_warn("dns", "the table on disk is not used, ignoring", LOG_S("why", err.message));
        return;
    }
    table_set(dns, data, table.size, false); /* the table is its beginning */
    log_info("dns", "answering from the table on disk");
}

/* ---- messages ----------------------------------------------------------------------------- */

static void start(struct dns *dns, const struct message_start *message)
{
    struct slice rest = slice_of(message->why_from);
    struct err err;
    if (dns->started)
        return;
    dns->started = true;
    dns->start = *message;
    dns->node.api_host = slice_of(dns->start.api_host);
    dns->node.alone = dns->start.flags & MESSAGE_NO_REPLICAS;
    while (rest.size && dns->why_count < WHY_MAX) /* the command line has checked it */
        if (ip_block_parse(slice_trim(slice_cut(&rest, ',')), &dns->why_from[dns->why_count],
                           &err) == 0)
            dns->why_count++;
    const char *https = getenv(DNS_HTTPS_ENVIRONMENT); /* likewise */
    if (https && *https && dns_https_parse(slice_of(https), &dns->https, &err) < 0)
        log_warn("dns", "$" DNS_HTTPS_ENVIRONMENT " says nothing, ignoring",
                 LOG_S("why", err.message));
    dns->node.https = &dns->https;
    dns->server.why_from = dns->why_from;
    dns->server.why_count = dns->why_count;
}

static void address_add(struct dns *dns, const struct message_address *message)
{
    if (dns->node.address_count == DNS_NODE_ADDRESSES_MAX)
        return;
    size_t row = dns->node.address_count++;
    dns->node.addresses[row].kind = message->kind;
    memcpy(dns->node.addresses[row].text, message->address, sizeof dns->node.addresses[row].text);
}

static void listener_add(struct dns *dns, const struct message_listener *message, int *fd)
{
    if (message->kind != LISTENER_DNS || dns->going || dns->socket_count == SOCKETS_MAX)
        unknown("a listener that is not of DNS, or comes late");
    else
        dns->sockets[dns->socket_count++] = take_fd(fd[0]);
}

static void metrics_set(struct dns *dns, const struct message_region *message, int fd)
{
    struct err err;
    if (dns->region)
        return;
    if (shm_map(fd, message->bytes, true, &dns->region, &err) < 0) {
        log_error("dns", "cannot map the metrics region", LOG_S("why", err.message));
        return;
    }
    dns->region_bytes = message->bytes;
    dns->region_mapped = true;
}

/* Before the first thing that counts: by then START and the region have come. */
static bool prepare(struct dns *dns)
{
    struct err err;
    if (dns->server.codec)
        return true;
    if (!dns->region) {
        dns->region_bytes = DNS_REGION_BYTES;
        dns->region = mem_zalloc(dns->region_bytes);
        log_warn("dns", "no metrics region came: counters end with this process");
    }
    metrics_attach(&dns->metrics, &dns_metrics, dns->region, dns->region_bytes);
    if (dns_server_init(&dns->server, &dns->metrics, &err) == 0)
        return true;
    log_error("dns", "cannot answer; --listen-dns none goes without", LOG_S("why", err.message));
    finish(dns, ROLE_EXIT_HOPELESS);
    return false;
}

static void go(struct dns *dns)
{
    union message ready = { .as_MESSAGE_READY = MESSAGE_INIT(MESSAGE_READY) };
    struct err err;
    if (dns->going)
        return;
    dns->going = true;
    dns->tcp = dns_tcp_new(dns->loop, &dns->server);
    for (size_t i = 0; i < dns->socket_count; i++) {
        int type = 0;
        socklen_t size = sizeof type;
        (void)getsockopt(dns->sockets[i], SOL_SOCKET, SO_TYPE, &type, &size);
        if (type == SOCK_DGRAM)
            dns->udp[dns->udp_count++] = dns_udp_new(dns->loop, &dns->server, dns->sockets[i]);
        else
            dns_tcp_listen(dns->tcp, dns->sockets[i]);
    }
    if (channel_send(dns->supervisor, &ready, message_size(MESSAGE_READY), NULL, 0, &err) < 0)
        finish(dns, 1);
}

static void on_message(struct dns *dns, const union message *message, int *fds)
{
    uint16_t type = message->head.type;
    if (type == MESSAGE_START) {
        start(dns, &message->as_MESSAGE_START);
        return;
    }
    if (!dns->started) {
        unknown("a message before START");
        return;
    }
    switch (type) {
    case MESSAGE_LISTENER:
        listener_add(dns, &message->as_MESSAGE_LISTENER, fds);
        return;
    case MESSAGE_ADDRESS:
        address_add(dns, &message->as_MESSAGE_ADDRESS);
        return;
    case MESSAGE_METRICS_DNS:
        metrics_set(dns, &message->as_MESSAGE_METRICS_DNS, fds[0]);
        return;
    case MESSAGE_DRAIN: /* each answer is out as soon as it was asked for */
        finish(dns, 0);
        return;
    default:
        break;
    }
    if (!prepare(dns))
        return;
    if (type == MESSAGE_TABLE_NEW)
        table_new(dns, &fds[0]);
    else if (type == MESSAGE_MESH_NEW)
        mesh_new(dns, fds[0]);
    else if (type == MESSAGE_TABLE_DISK)
        table_disk(dns, fds[0], fds[1]);
    else if (type == MESSAGE_GO)
        go(dns);
    else
        unknown(message_name(type));
}

static bool channel_read(struct dns *dns)
{
    static union message message; /* one thread; some KiB */
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;
    while (!dns->done) {
        int r =
            channel_receive(dns->supervisor, &message, sizeof message, &size, fds, &fd_count, &err);
        if (r == 0)
            return true;
        if (r == ERR_CANCELED)
            return false;
        if (r < 0 || message_check(&message, size, fd_count, &err) < 0)
            unknown(err.message);
        else
            on_message(dns, &message, fds);
        for (size_t i = 0; r > 0 && i < fd_count; i++)
            fd_close(&fds[i]);
    }
    return true;
}

static void on_supervisor(struct watch *, unsigned, void *data)
{
    struct dns *dns = data;
    if (!channel_read(dns))
        finish(dns, 1);
}

static void on_lifeline(struct watch *, unsigned, void *data)
{
    finish(data, 1);
}

/* ---- life --------------------------------------------------------------------------------- */

static int secret_make(struct dns *dns, struct err *err)
{
    struct env_linux *world;
    int r = env_linux_new(&world, err);
    if (r < 0)
        return r;
    env_random(env_linux_env(world), dns->server.secret, sizeof dns->server.secret);
    env_linux_free(world);
    return 0;
}

void dns_prepare(void)
{
    const char *addresses = getenv(WHERE_FILE_ENVIRONMENT), *mmdb = getenv(WHERE_MMDB_ENVIRONMENT);
    struct err err;
    if ((addresses || mmdb) && where_file_open(addresses, mmdb, &prepared, &err) < 0)
        log_error("dns", "addresses are not known, going on without", LOG_S("why", err.message));
}

static void dns_end(struct dns *dns)
{
    for (size_t i = 0; i < dns->udp_count; i++)
        dns_udp_free(dns->udp[i]);
    dns_tcp_free(dns->tcp);
    dns_server_deinit(&dns->server);
    watch_free(dns->supervisor_watch);
    watch_free(dns->lifeline_watch);
    timer_free(dns->stable);
    timer_free(dns->old);
    timer_free(dns->grown);
    timer_free(dns->again);
    fd_close(&dns->table_later);
    dns_young_deinit(&dns->young);
    channel_free(dns->supervisor);
    loop_free(dns->loop);
    dns_view_free(dns->view);
    if (dns->seen.head != dns->mesh.head)
        mesh_free(dns->seen);
    mesh_free(dns->mesh);
    table_free(dns->table, dns->table_bytes, dns->table_mapped);
    where_map_free(take_ptr(prepared));
    metrics_deinit(&dns->metrics);
    if (dns->region_mapped)
        shm_unmap(dns->region, dns->region_bytes);
    else
        free(dns->region);
    for (size_t i = 0; i < dns->socket_count; i++)
        fd_close(&dns->sockets[i]);
    fd_close(&dns->lifeline);
}

int dns_main(int channel_fd_taken, int lifeline_fd)
{
    struct dns *dns = mem_zalloc(sizeof *dns);
    struct err err;
    /* Ctrl-C goes to the whole process group: it is the supervisor that ends us. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    dns->loop = loop_new();
    dns->lifeline = lifeline_fd;
    dns->stable = timer_new(dns->loop, on_stable, dns);
    dns->old = timer_new(dns->loop, on_old, dns);
    dns->grown = timer_new(dns->loop, on_grown, dns);
    dns->again = timer_new(dns->loop, on_again, dns);
    dns->table_later = -1;
    dns->supervisor = channel_new(channel_fd_taken);
    dns->supervisor_watch = watch_new(dns->loop, channel_fd_taken, WATCH_READ, on_supervisor, dns);
    if (lifeline_fd >= 0)
        dns->lifeline_watch = watch_new(dns->loop, lifeline_fd, WATCH_READ, on_lifeline, dns);
    if (secret_make(dns, &err) < 0) {
        log_error("dns", "no cookies", LOG_S("why", err.message));
        dns->done = true;
        dns->status = 1;
    }
    if (!dns->done)
        loop_run(dns->loop);
    dns_end(dns);
    int status = dns->status;
    free(dns);
    return status;
}
