/* SPDX-License-Identifier: Apache-2.0 */
/* A piece is read, given its moment, and written at it. Each lane has one timer, for its first
 * piece; the order of pieces is that of their moments, by way_pass(). */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/log.h"
#include "fleet/relay_own.h"
#include "io/loop.h"
#include "proto/proxy.h"
#include "sys/fd.h"

struct piece {
    struct list link;
    struct lane *lane;
    struct stream_write write;
    int64_t out_ns;
    size_t size;
    char bytes[];
};

static_assert(sizeof(((struct line *)NULL)->head_bytes) >= PROXY_WRITE_BYTES);

static void lane_go(struct lane *lane);

static struct fleet_link terms_of(const struct line *line)
{
    struct fleet_link link = line->terms ? line->terms->link : (struct fleet_link){};
    if (line->terms)
        link.rtt_us += line->terms->slowed_us;
    return link;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void on_free(void *data)
{
    struct line *line = data;
    fd_close(&line->there.record);
    fd_close(&line->back.record);
    free(line);
}

/* Once it is over, and nothing of it is to come back any more. */
static void line_free(struct line *line)
{
    if (line->over && !line->writes_open && !line->connect)
        loop_defer(line->relay->loop, &line->freed);
}

static void lane_drop(struct lane *lane)
{
    struct relay *relay = lane->line->relay;
    struct piece *piece;
    if (env_timer_armed(&lane->timer))
        env_timers_stop(&relay->timers, &lane->timer);
    while ((piece = LIST_FIRST(&lane->pieces, struct piece, link))) {
        list_remove(&piece->link);
        lane->held_bytes -= piece->size;
        relay->stats.held_bytes -= piece->size;
        free(piece);
    }
}

static void line_end(struct line *line, bool reset)
{
    struct stream *const streams[] = { line->client, line->server };
    struct relay *relay = line->relay;
    if (line->over)
        return;
    line->over = true;
    list_remove(&line->link);
    relay->stats.open--;
    relay->stats.cut -= line->cut;
    if (line->terms) {
        line->terms->connections--;
        line->terms->stalls += line->there.way.stalls + line->back.way.stalls;
    }
    lane_drop(&line->there);
    lane_drop(&line->back);
    if (line->connect)
        stream_connect_cancel(line->connect); /* comes back, and frees the line */
    for (size_t i = 0; i < 2; i++)
        if (streams[i] && reset)
            stream_reset(streams[i]);
        else if (streams[i])
            stream_close(streams[i]);
    line_free(line);
}

void line_reset(struct line *line)
{
    line_end(line, true);
}

/* A close now would drop what is still being written. */
static void line_end_if_done(struct line *line)
{
    if (!line->over && line->there.end_passed && line->back.end_passed && !line->writes_open)
        line_end(line, false);
}

/* The peer that this lane writes to is gone. What it sent before may still be on its way: its own
 * lane says so behind that, where it has not ended. */
static void lane_die(struct lane *lane)
{
    struct line *line = lane->line;
    const struct lane *other = lane == &line->there ? &line->back : &line->there;
    if (other->ended && !other->reset) {
        line_end(line, true);
        return;
    }
    lane->dead = true;
    lane_drop(lane);
}

/* ---- out ------------------------------------------------------------------------------------ */

static void on_written(struct stream_write *write, const struct err *err, void *data)
{
    struct piece *piece = data;
    struct lane *lane = piece->lane;
    struct line *line = lane->line;
    (void)write;
    lane->held_bytes -= piece->size;
    line->relay->stats.held_bytes -= piece->size;
    line->writes_open--;
    free(piece);
    if (line->over) {
        line_free(line);
        return;
    }
    if (err)
        lane_die(lane);
    else if (!line->cut && !lane->ended)
        stream_read_start(lane->from); /* there is room again */
    line_end_if_done(line);
}

static void piece_write(struct lane *lane, struct piece *piece)
{
    struct iovec bytes = { piece->bytes, piece->size };
    list_remove(&piece->link);
    piece->write.on_written = on_written;
    piece->write.data = piece;
    lane->line->writes_open++;
    stream_write(lane->to, &piece->write, &bytes, 1);
}

/* What `from` sent is all out: the other side hears of the end as `from` made it. */
static void end_pass(struct lane *lane)
{
    struct line *line = lane->line;
    lane->end_passed = true;
    if (lane->reset)
        line_end(line, true);
    else
        stream_shutdown(lane->to);
}

static void on_due(struct env_timer *timer, void *data)
{
    (void)timer;
    lane_go(data);
}

/* Whatever has come out by now is written, and the timer set for what is next. */
static void lane_go(struct lane *lane)
{
    struct line *line = lane->line;
    int64_t now = loop_now_ns();
    struct piece *piece;
    if (line->over || line->cut || !lane->to)
        return;
    while ((piece = LIST_FIRST(&lane->pieces, struct piece, link)) && piece->out_ns <= now)
        piece_write(lane, piece);
    if (piece) {
        relay_timer(line->relay, &lane->timer, piece->out_ns, on_due, lane);
    } else if (lane->ended && !lane->end_passed && lane->end_ns > now) {
        relay_timer(line->relay, &lane->timer, lane->end_ns, on_due, lane);
    } else if (lane->ended && !lane->end_passed) {
        end_pass(lane);
        line_end_if_done(line);
    }
}

/* ---- in ------------------------------------------------------------------------------------- */

/* Whoever looks for what must not leave a place has to see that they end. */
static void record_full(struct relay *relay)
{
    char path[512];
    log_warn("fleet", "recordings end here: they have as many bytes as they may, see --record-max",
             LOG_S("folder", relay->record));
    relay->record_left = 0;
    int size = snprintf(path, sizeof path, "%s/" RELAY_RECORD_FULL, relay->record);
    if (size > 0 && (size_t)size < sizeof path)
        fd_close(&(int){ open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) });
}

static bool record_takes(struct relay *relay, uint64_t bytes)
{
    if (bytes > relay->record_left) {
        if (relay->record_left)
            record_full(relay);
        return false;
    }
    relay->record_left -= bytes;
    return true;
}

static void record(struct lane *lane, const char *bytes, size_t size)
{
    if (lane->record >= 0 && !record_takes(lane->line->relay, size))
        fd_close(&lane->record);
    while (lane->record >= 0 && size) {
        ssize_t n = write(lane->record, bytes, size);
        if (n <= 0) {
            log_warn("fleet", "a recording ends here: it cannot be written",
                     LOG_S("why", strerror(errno)));
            fd_close(&lane->record);
            return;
        }
        bytes += n;
        size -= (size_t)n;
    }
}

static void on_space(void *data, struct iovec *ret_space)
{
    const struct lane *lane = data;
    struct relay *relay = lane->line->relay;
    struct fleet_link link = terms_of(lane->line);
    size_t most = way_queue_bytes(&link);
    if (!lane->line->cut && lane->held_bytes < most)
        *ret_space = (struct iovec){ relay->scratch, sizeof relay->scratch };
}

static void on_read(void *data, size_t bytes)
{
    struct lane *lane = data;
    struct line *line = lane->line;
    struct fleet_link link = terms_of(line);
    if (lane->dead)
        return;
    struct piece *piece = mem_alloc(sizeof *piece + bytes);
    *piece = (struct piece){ .lane = lane, .size = bytes };
    memcpy(piece->bytes, line->relay->scratch, bytes);
    piece->out_ns = way_pass(&lane->way, &link, bytes, loop_now_ns(), &line->relay->random);
    list_append(&lane->pieces, &piece->link);
    lane->held_bytes += bytes;
    line->relay->stats.held_bytes += bytes;
    if (line->terms)
        line->terms->bytes += bytes;
    record(lane, piece->bytes, bytes);
    if (!env_timer_armed(&lane->timer))
        lane_go(lane);
}

static void on_read_end(void *data, const struct err *err)
{
    struct lane *lane = data;
    struct line *line = lane->line;
    struct fleet_link link = terms_of(line);
    lane->ended = true;
    lane->reset = err != NULL;
    lane->end_ns = way_pass(&lane->way, &link, 0, loop_now_ns(), &line->relay->random);
    if (!env_timer_armed(&lane->timer))
        lane_go(lane);
}

static const struct stream_reader reader = { on_space, on_read, on_read_end };

/* ---- towards the PoP ------------------------------------------------------------------------ */

static void on_head_written(struct stream_write *write, const struct err *err, void *data)
{
    struct line *line = data;
    (void)write;
    line->writes_open--;
    if (line->over)
        line_free(line);
    else if (err)
        line_end(line, true);
}

static void head_write(struct line *line)
{
    struct fleet_link link = terms_of(line);
    struct proxy_header header = { .rtt_known = line->terms != NULL, .rtt_us = link.rtt_us };
    header.known = address_ip(&line->client->peer, &header.source) &&
                   address_ip(&line->port->face, &header.destination);
    header.source_port = line->client->peer.port;
    header.destination_port = line->port->face.port;
    struct iovec bytes = { line->head_bytes, proxy_write2(line->head_bytes, &header) };
    line->head.on_written = on_head_written;
    line->head.data = line;
    line->writes_open++;
    stream_write(line->server, &line->head, &bytes, 1);
}

static void on_connected(struct stream *stream, const struct err *err, void *data)
{
    struct line *line = data;
    line->connect = NULL;
    if (line->over) {
        if (stream)
            stream_close(stream);
        line_free(line);
        return;
    }
    if (err) { /* nobody listens: so the client is told */
        line_end(line, true);
        return;
    }
    line->server = line->there.to = line->back.from = stream;
    stream_set_reader(stream, &reader, &line->back);
    head_write(line);
    if (line->cut)
        return;
    stream_read_start(stream);
    lane_go(&line->there);
}

static void line_connect(struct line *line)
{
    struct relay *relay = line->relay;
    struct stream_connect_options options = { &relay->source, RELAY_BUFFER_BYTES };
    line->connect =
        stream_connect_with(relay->loop, &line->port->inside, &options, on_connected, line);
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Between PoPs alone, a file each way. */
static void record_open(struct line *line)
{
    struct relay *relay = line->relay;
    const struct fleet *fleet = relay->fleet;
    char path[512];
    if (!relay->record || line->place >= fleet->pop_count ||
        !record_takes(relay, UINT64_C(2) * RELAY_RECORD_FILE_BYTES))
        return;
    struct lane *const lanes[] = { &line->there, &line->back };
    unsigned long long number = ++relay->recorded;
    for (size_t i = 0; i < 2; i++) {
        struct slice from = fleet->pops[line->place].name;
        struct slice to =
            line->port->control ? SLICE("control") : fleet->pops[line->port->pop].name;
        int size = snprintf(path, sizeof path, "%s/%08llu.%.*s.%.*s.%s", relay->record, number,
                            SLICE_FMT(from), SLICE_FMT(to), i == 0 ? "sent" : "answered");
        if (size > 0 && (size_t)size < sizeof path)
            lanes[i]->record = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (lanes[i]->record < 0)
            log_warn("fleet", "a connection is not recorded", LOG_S("path", path),
                     LOG_S("why", strerror(errno)));
    }
}

static void lane_init(struct lane *lane, struct line *line, bool opening)
{
    *lane = (struct lane){ .line = line, .way.opening = opening, .record = -1 };
    list_init(&lane->pieces);
}

void line_open(struct relay_port *port, struct stream *client)
{
    struct relay *relay = port->relay;
    struct line *line = mem_zalloc(sizeof *line);
    struct ip ip = {};
    line->relay = relay;
    line->port = port;
    line->client = client;
    line->place = FLEET_PLACE_NONE;
    loop_task_init(&line->freed, on_free, line);
    if (address_ip(&client->peer, &ip))
        line->place = fleet_place_of(relay->fleet, &ip);
    if (line->place != FLEET_PLACE_NONE)
        line->terms = &relay->links[line->place * relay->fleet->pop_count + port->pop];
    lane_init(&line->there, line, true);
    lane_init(&line->back, line, false);
    line->there.from = line->back.to = client;
    record_open(line);
    list_append(&relay->lines, &line->link);
    relay->stats.open++;
    relay->stats.accepted++;
    if (line->terms)
        line->terms->connections++;
    stream_set_reader(client, &reader, &line->there);
    if (line->terms && line->terms->link.outage) {
        line_cut(line);
        return;
    }
    stream_read_start(client);
    line_connect(line);
}

void line_cut(struct line *line)
{
    struct lane *const lanes[] = { &line->there, &line->back };
    if (line->cut)
        return;
    line->cut = true;
    line->relay->stats.cut++;
    for (size_t i = 0; i < 2; i++) {
        if (lanes[i]->from)
            stream_read_stop(lanes[i]->from);
        if (env_timer_armed(&lanes[i]->timer))
            env_timers_stop(&line->relay->timers, &lanes[i]->timer);
    }
}

void line_heal(struct line *line)
{
    struct lane *const lanes[] = { &line->there, &line->back };
    if (!line->cut)
        return;
    line->cut = false;
    line->relay->stats.cut--;
    if (!line->server && !line->connect)
        line_connect(line);
    for (size_t i = 0; i < 2 && !line->over; i++) {
        if (lanes[i]->from && !lanes[i]->ended)
            stream_read_start(lanes[i]->from);
        lane_go(lanes[i]);
    }
}
