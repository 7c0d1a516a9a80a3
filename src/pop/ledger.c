/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"

enum { FILE_BYTES_MAX = 64 << 20 };

static void write_soon(struct ledger *ledger);
static void read_again(struct ledger *ledger);

static const char *path_of(const struct ledger *ledger, struct arena *arena, const char *name)
{
    return arena_format(arena, "%s/%s", ledger->folder, name);
}

static const char *file_name(struct arena *arena, uint64_t number)
{
    return arena_format(arena, "%010llu.ledger", (unsigned long long)number);
}

/* ---- windows in memory ----------------------------------------------------------------------- */

static struct ledger_window *window_new(struct ledger *ledger, const struct ledger_record *record)
{
    struct ledger_window *window = mem_zalloc(sizeof *window);
    window->first = record->first;
    window->last = record->last;
    window->begin_ms = record->begin_ms;
    window->check = record->check;
    window->offered = record->offered;
    window->bytes = mem_string(record->raw);
    window->size = record->raw.size;
    ledger->window_count++;
    ledger->window_bytes += window->size;
    return window;
}

static void window_free(struct ledger *ledger, struct ledger_window *window)
{
    ledger->window_count--;
    ledger->window_bytes -= window->size;
    list_remove(&window->link);
    free(window->bytes);
    free(window);
}

static void window_read(const struct ledger_window *window, struct arena *arena,
                        struct ledger_record *ret)
{
    struct ledger_reader reader;
    ledger_read(&reader, (struct slice){ window->bytes, window->size }, true);
    if (ledger_next(&reader, arena, ret, NULL) != 1)
        abort(); /* we wrote it, or checked it */
}

static void id_new(struct ledger *ledger)
{
    env_random(ledger->env, &ledger->id, sizeof ledger->id);
}

/* ---- merging --------------------------------------------------------------------------------- */

/* Those from `from` up to `until` (not any more) as one; true: it was done. */
static bool merge_run(struct ledger *ledger, struct ledger_window **run, size_t count)
{
    struct arena *arena = arena_new();
    struct ledger_record *records = ARENA_ARRAY(arena, struct ledger_record, count), merged;
    for (size_t i = 0; i < count; i++)
        window_read(run[i], arena, &records[i]);
    bool done = ledger_merge(arena, records, count, &merged);
    if (done) {
        merged.id = ledger->id;
        merged.offered = false;
        (void)ledger_write(arena, &merged);
        struct ledger_window *window = window_new(ledger, &merged);
        list_insert_after(&run[count - 1]->link, &window->link);
        for (size_t i = 0; i < count; i++)
            window_free(ledger, run[i]);
        ledger->merged += count - 1;
    }
    arena_free(arena);
    return done;
}

static int64_t period_of(const struct ledger_window *window, int64_t period_ms)
{
    return period_ms ? window->begin_ms / period_ms : 0;
}

/* Windows that were never offered, those of one period as one. */
static void merge_by(struct ledger *ledger, int64_t period_ms)
{
    struct ledger_window *window;
    auto_free struct ledger_window **run =
        mem_resize(NULL, ledger->window_count + 1, sizeof(struct ledger_window *));
    size_t count = 0;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        if (window->first <= ledger->offered)
            continue;
        if (count && period_of(run[0], period_ms) != period_of(window, period_ms)) {
            if (count > 1)
                (void)merge_run(ledger, run, count);
            count = 0;
        }
        run[count++] = window;
    }
    if (count > 1)
        (void)merge_run(ledger, run, count);
}

static void merge(struct ledger *ledger)
{
    static const int64_t periods_ms[] = { 60'000, 3'600'000, 86'400'000, 0 };
    if (ledger->window_bytes <= LEDGER_KEPT_BYTES)
        return;
    for (size_t i = 0; i < 4 && ledger->window_bytes > LEDGER_KEPT_BYTES / 2; i++)
        merge_by(ledger, periods_ms[i]);
    ledger->anew = true;
}

/* ---- writing --------------------------------------------------------------------------------- */

bool ledger_kept(const struct ledger *ledger)
{
    struct ledger_window *window;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        if (!window->on_disk)
            return false;
    return true;
}

static struct ledger_record head_record(const struct ledger *ledger)
{
    struct ledger_record head = { .type = LEDGER_FILE,
                                  .id = ledger->id,
                                  .last = ledger->counted,
                                  .counted = ledger->counted_check };
    memcpy(head.pop, ledger->pop, sizeof head.pop);
    return head;
}

static struct slice joined(struct arena *arena, const struct slice *parts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].size;
    char *bytes = arena_alloc(arena, size + 1), *at = bytes;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    return (struct slice){ bytes, size };
}

/* Of windows all, or those alone that are not on disk; behind them what is offered, where that is
 * not told by a window. */
static struct slice gather(struct ledger *ledger, struct arena *arena, bool whole)
{
    struct slice *parts = ARENA_ARRAY(arena, struct slice, ledger->window_count + 3);
    size_t count = 0;
    struct ledger_window *window;
    uint64_t told = whole ? ledger->counted : ledger->offered_on_disk;
    if (whole) {
        /* The marks are those of the newest window: what came since is in none yet. */
        struct ledger_record head = head_record(ledger);
        head.marks = ledger->marks;
        parts[count++] = ledger_write(arena, &head);
    }
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        if (!whole && window->on_disk)
            continue;
        parts[count++] = (struct slice){ window->bytes, window->size };
        told = window->offered && window->last > told ? window->last : told;
    }
    if (ledger->offered > told) {
        struct ledger_record offer = { .type = LEDGER_OFFER,
                                       .id = ledger->id,
                                       .last = ledger->offered };
        parts[count++] = ledger_write(arena, &offer);
    }
    return joined(arena, parts, count);
}

/* Where it stays the next start removes it. */
static void remove_file(struct ledger *ledger, struct arena *arena, uint64_t number)
{
    struct err err = {};
    if (env_file_remove(ledger->env, path_of(ledger, arena, file_name(arena, number)), &err) < 0 &&
        err.code != ERR_NOT_FOUND)
        log_warn("pop", "a ledger that was written anew stays", LOG_S("error", err.message));
}

static void on_retry(struct env_timer *, void *data)
{
    struct ledger *ledger = data;
    if (ledger->unread)
        read_again(ledger);
    else
        write_soon(ledger);
}

static void retry(struct ledger *ledger)
{
    env_timer_start(ledger->env, &ledger->retry, LEDGER_RETRY_MS * ENV_MS, on_retry, ledger);
}

static void on_written(const struct err *err, void *data)
{
    struct ledger *ledger = data;
    struct ledger_window *window;
    struct arena *arena = ledger->writing;
    ledger->writing = NULL;
    if (err) {
        if (ledger->writes_failed++ % 64 == 0)
            log_error("pop", "the ledger of usage is not written, trying again",
                      LOG_S("error", err->message));
        ledger->anew = true; /* what is in the file now is not certain */
        retry(ledger);
        arena_free(arena);
        return;
    }
    if (ledger->writing_whole) {
        if (ledger->file)
            remove_file(ledger, arena, ledger->file);
        ledger->file++;
        ledger->file_bytes = 0;
    }
    arena_free(arena);
    ledger->file_bytes += ledger->writing_bytes;
    ledger->offered_on_disk = ledger->writing_offered;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        window->on_disk = window->on_disk || window->last <= ledger->writing_last;
    if (ledger->write_again || !ledger_kept(ledger))
        write_soon(ledger);
    if (ledger->on_kept)
        ledger->on_kept(ledger->data);
}

static bool grown(const struct ledger *ledger)
{
    return ledger->file_bytes > LEDGER_FILE_BYTES &&
           ledger->file_bytes > 2 * (uint64_t)ledger->window_bytes;
}

static void write_soon(struct ledger *ledger)
{
    if (ledger->writing || env_timer_armed(&ledger->retry)) {
        ledger->write_again = true;
        return;
    }
    bool whole = ledger->anew || !ledger->file || grown(ledger);
    struct arena *arena = arena_new();
    struct slice bytes = gather(ledger, arena, whole);
    ledger->write_again = ledger->anew = false;
    if (!bytes.size) {
        arena_free(arena);
        return;
    }
    ledger->writing = arena;
    ledger->writing_whole = whole;
    ledger->writing_bytes = bytes.size;
    ledger->writing_last = ledger->last;
    ledger->writing_offered = ledger->offered;
    const char *path =
        path_of(ledger, arena, file_name(arena, whole ? ledger->file + 1 : ledger->file));
    if (whole)
        env_file_save(ledger->env, path, bytes, on_written, ledger);
    else
        env_file_append(ledger->env, path, ledger->file_bytes, bytes, on_written, ledger);
}

/* ---- what happens ---------------------------------------------------------------------------- */

static bool may_offer(const struct ledger *ledger, size_t more)
{
    struct ledger_window *window;
    size_t bytes = more;
    uint32_t count = 0;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        if (window->last > ledger->offered)
            return false; /* an older one is not offered yet */
        bytes += window->size;
        count++;
    }
    return count == 0 || (count < LEDGER_OFFERED_MAX && bytes <= LEDGER_OFFERED_BYTES);
}

static void marks_set(struct ledger *ledger, const struct ledger_marks *marks)
{
    struct arena *arena = arena_new();
    ledger->marks = *marks;
    ledger->marks.replicas =
        ARENA_ARRAY(arena, struct ledger_replica_mark, marks->replica_count + 1);
    ledger->marks.counters =
        ARENA_ARRAY(arena, struct ledger_counter_mark, marks->counter_count + 1);
    if (marks->replica_count)
        memcpy(ledger->marks.replicas, marks->replicas,
               marks->replica_count * sizeof *marks->replicas);
    if (marks->counter_count)
        memcpy(ledger->marks.counters, marks->counters,
               marks->counter_count * sizeof *marks->counters);
    arena_free(ledger->marks_arena);
    ledger->marks_arena = arena;
}

void ledger_keep(struct ledger *ledger, struct ledger_record *window, bool offer)
{
    struct arena *arena = arena_new();
    window->type = LEDGER_WINDOW;
    window->id = ledger->id;
    window->first = window->last = ++ledger->last;
    window->offered = offer && may_offer(ledger, sizeof(struct ledger_row) * window->row_count);
    (void)ledger_write(arena, window);
    struct ledger_window *kept = window_new(ledger, window);
    list_append(&ledger->windows, &kept->link);
    if (window->offered)
        ledger->offered = window->last;
    marks_set(ledger, &window->marks);
    arena_free(arena);
    merge(ledger);
    write_soon(ledger);
}

/* The next ones, where all that were offered are counted. */
static void offer_more(struct ledger *ledger)
{
    struct ledger_window *window;
    size_t bytes = 0;
    uint32_t count = 0;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        bytes += window->size;
        if (count && (count == LEDGER_OFFERED_MAX || bytes > LEDGER_OFFERED_BYTES))
            return;
        count++;
        if (window->last > ledger->offered)
            ledger->offered = window->last;
    }
}

bool ledger_to_send(struct ledger *ledger, struct arena *arena, struct slice *ret)
{
    struct slice *parts = ARENA_ARRAY(arena, struct slice, LEDGER_OFFERED_MAX + 1);
    size_t count = 1;
    struct ledger_window *window;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        if (count > LEDGER_OFFERED_MAX || !window->on_disk ||
            window->last > ledger->offered_on_disk)
            break;
        parts[count++] = (struct slice){ window->bytes, window->size };
    }
    if (count == 1) {
        uint64_t before = ledger->offered;
        offer_more(ledger);
        if (ledger->offered > before)
            write_soon(ledger);
        return false;
    }
    struct ledger_record head = head_record(ledger);
    parts[0] = ledger_write(arena, &head);
    *ret = joined(arena, parts, count);
    return true;
}

/* The same as window `first` and on of the ledger that this is by now; never offered. */
static void renumber(struct ledger *ledger, struct ledger_window *window, uint64_t first)
{
    struct arena *arena = arena_new();
    struct ledger_record record;
    window_read(window, arena, &record);
    record.id = ledger->id;
    record.last = first + (record.last - record.first);
    record.first = first;
    record.offered = false;
    (void)ledger_write(arena, &record);
    struct ledger_window *again = window_new(ledger, &record);
    list_insert_after(&window->link, &again->link);
    window_free(ledger, window);
    arena_free(arena);
    ledger->last = record.last;
}

/* Control counted from another copy of this ledger: that of a disk that was set back, most likely.
 * Those numbers it has counted; what they stand for here nobody can tell, and twice is worse than
 * not at all. */
static void fork_off(struct ledger *ledger, uint64_t counted)
{
    struct ledger_window *window;
    uint64_t lost = 0;
    struct ledger_id before = ledger->id;
    char hex[33];
    ledger_hex(before.bytes, hex);
    id_new(ledger);
    ledger->last = 0;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        if (window->first <= counted) {
            lost += window->last - window->first + 1;
            window_free(ledger, window);
            continue;
        }
        renumber(ledger, window, ledger->last + 1);
    }
    ledger->counted = ledger->offered = ledger->offered_on_disk = 0;
    ledger->counted_check = (struct ledger_check){};
    ledger->lost += lost;
    ledger->anew = true;
    log_error("pop", "control has counted another copy of this ledger; a new one begins",
              LOG_S("ledger", hex), LOG_U("counted", counted), LOG_U("windows_lost", lost));
    write_soon(ledger);
}

void ledger_counted(struct ledger *ledger, uint64_t last, const struct ledger_check *check)
{
    struct ledger_window *window;
    bool found = last <= ledger->counted; /* a control that was set back, or is new */
    if (last == ledger->counted && last && !ledger_check_equal(check, &ledger->counted_check))
        found = false;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        found = found || (window->last == last && ledger_check_equal(&window->check, check));
    if (!found) {
        fork_off(ledger, last);
        return;
    }
    ledger->counted = last;
    ledger->counted_check = last ? *check : (struct ledger_check){};
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        if (window->last <= last)
            window_free(ledger, window);
    if (ledger->offered < last)
        ledger->offered = last;
}

/* ---- opening --------------------------------------------------------------------------------- */

struct found {
    struct ledger *ledger;
    struct arena *arena;
    bool head, id; /* a FILE was read; it is known which ledger this is */
    bool foreign;  /* of another PoP, or two ledgers in one file */
    bool damaged;  /* before what is read now */
    struct ledger_marks marks;
};

/* A window that is there, in order; others contradict it. */
static void found_window(struct found *found, const struct ledger_record *record)
{
    struct ledger *ledger = found->ledger;
    if (record->first <= ledger->last) {
        log_error("pop", "a window of the ledger comes twice, ignoring the second",
                  LOG_U("number", record->first));
        ledger->anew = true;
        return;
    }
    if (record->first > ledger->last + 1 && found->damaged) {
        ledger->lost += record->first - ledger->last - 1;
        log_error("pop", "windows of the ledger are missing: what they held is not counted",
                  LOG_U("first", ledger->last + 1), LOG_U("last", record->first - 1));
    }
    struct ledger_window *window = window_new(ledger, record);
    list_append(&ledger->windows, &window->link);
    window->on_disk = true;
    ledger->last = record->last;
    if (record->offered)
        ledger->offered = record->last;
    found->marks = record->marks;
}

static void found_record(struct found *found, const struct ledger_record *record)
{
    struct ledger *ledger = found->ledger;
    if (found->id && memcmp(&record->id, &ledger->id, sizeof ledger->id) != 0) {
        found->foreign = true;
        return;
    }
    ledger->id = record->id;
    if (record->type == LEDGER_FILE) {
        found->foreign = found->foreign || strcmp(record->pop, ledger->pop) != 0;
        found->head = true;
        found->marks = record->marks;
        ledger->counted = ledger->last = record->last;
        ledger->counted_check = record->counted;
    } else if (record->type == LEDGER_WINDOW) {
        if (!found->id) /* the head was lost: this is where it goes on */
            ledger->last = record->first - 1;
        found_window(found, record);
    } else if (record->last > ledger->offered) {
        ledger->offered = record->last;
    }
    found->id = true;
}

static void forget_all(struct ledger *ledger)
{
    struct ledger_window *window;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        window_free(ledger, window);
    ledger->last = ledger->counted = ledger->offered = 0;
    ledger->counted_check = (struct ledger_check){};
}

/* Out of the way, and yet there for whoever wants to look. */
static void set_aside(struct ledger *ledger, struct arena *arena, const char *name,
                      struct slice bytes)
{
    struct err err = {};
    if (env_file_replace(ledger->env, path_of(ledger, arena, name), bytes, &err) < 0)
        log_warn("pop", "a ledger is not kept aside", LOG_S("error", err.message));
    ledger->anew = true;
}

static void read_file(struct found *found, const char *name, struct slice bytes)
{
    struct ledger *ledger = found->ledger;
    struct ledger_reader reader;
    struct ledger_record record;
    struct err err = {};
    int r;
    ledger_read(&reader, bytes, false);
    while ((r = ledger_next(&reader, found->arena, &record, &err)) == 1 && !found->foreign) {
        found->damaged = reader.damages > 0;
        found_record(found, &record);
    }
    ledger->file_bytes = reader.whole_end;
    if (found->foreign || r < 0) {
        log_error("pop",
                  r < 0 ? "the ledger cannot be read: a new one begins, this one is kept aside"
                        : "the ledger is another PoP's: a new one begins, this one is kept aside",
                  LOG_S("file", name), LOG_S("as", "refused"), LOG_S("error", err.message));
        set_aside(ledger, found->arena, "refused", bytes);
        forget_all(ledger);
        found->id = found->head = false;
        found->marks = (struct ledger_marks){}; /* of what is no business of this one */
        return;
    }
    if (!reader.damages)
        return;
    bool torn = reader.damages == 1 && reader.damaged_at == reader.whole_end;
    if (torn)
        log_warn("pop", "the ledger ends within a record, going on behind the last whole one",
                 LOG_S("file", name), LOG_U("byte", reader.whole_end));
    else
        log_error("pop", "the ledger is damaged: what was there is not counted",
                  LOG_S("file", name), LOG_U("byte", reader.damaged_at),
                  LOG_U("bytes", reader.damaged), LOG_S("as", "damaged"));
    ledger->torn = reader.whole_end < bytes.size;
    if (!torn)
        set_aside(ledger, found->arena, "damaged", bytes);
    ledger->anew = true;
}

static bool file_number(struct slice name, uint64_t *ret)
{
    return slice_ends(name, SLICE(".ledger")) &&
           slice_u64((struct slice){ name.data, name.size - 7 }, ret) && *ret > 0 &&
           *ret < UINT64_MAX;
}

/* The newest file alone: the one before it was to be removed once that was there whole. False: it
 * is not known which there are. */
static bool read_newest(struct found *found)
{
    struct ledger *ledger = found->ledger;
    struct slice *names, bytes;
    size_t count;
    uint64_t number;
    struct err err = {};
    if (env_folder_make(ledger->env, ledger->folder, &err) < 0 ||
        env_file_list(ledger->env, ledger->folder, found->arena, &names, &count, &err) < 0) {
        if (!ledger->unread)
            log_error("pop", "the ledger's folder cannot be read, nothing is written, trying again",
                      LOG_S("error", err.message));
        ledger->unread = true;
        return false;
    }
    ledger->unread = false;
    for (size_t i = 0; i < count; i++)
        if (file_number(names[i], &number) && number > ledger->file)
            ledger->file = number;
    if (!ledger->file)
        return true;
    const char *name = file_name(found->arena, ledger->file);
    if (env_file_read(ledger->env, path_of(ledger, found->arena, name), FILE_BYTES_MAX,
                      found->arena, &bytes, &err) < 0) {
        log_error("pop", "the ledger cannot be read: a new one begins",
                  LOG_S("error", err.message));
        ledger->anew = true;
        ledger->file++; /* the new one is not the next: this one stays */
        return true;
    }
    read_file(found, name, bytes);
    remove_file(ledger, found->arena, ledger->file - 1);
    return true;
}

static void read_done(struct ledger *ledger, const struct found *found)
{
    ledger->offered = ledger->offered > ledger->counted ? ledger->offered : ledger->counted;
    ledger->offered_on_disk = ledger->offered;
    ledger->anew = ledger->anew || !found->head;
}

/* What came meanwhile goes behind what was there. Nothing before it is counted again, as its marks
 * were not known. */
static void read_again(struct ledger *ledger)
{
    struct arena *arena = arena_new();
    struct found found = { .ledger = ledger, .arena = arena };
    struct ledger_window *window;
    struct list own;
    uint64_t kept = ledger->last;
    list_init(&own);
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        list_remove(&window->link);
        list_append(&own, &window->link);
    }
    ledger->last = ledger->offered = 0;
    if (!read_newest(&found)) {
        ledger->last = kept;
        retry(ledger);
    } else if (found.id) {
        ledger_skip(ledger);
    } else {
        id_new(ledger);
    }
    LIST_EACH (window, &own, struct ledger_window, link) {
        list_remove(&window->link);
        list_append(&ledger->windows, &window->link);
        if (!ledger->unread)
            renumber(ledger, window, ledger->last + 1);
    }
    if (!ledger->unread) {
        if (!kept)
            marks_set(ledger, &found.marks);
        log_warn("pop", "the ledger's folder can be read again", LOG_U("windows_meanwhile", kept));
        read_done(ledger, &found);
        merge(ledger);
        write_soon(ledger);
    }
    arena_free(arena);
}

void ledger_open(struct ledger *ledger, struct env *env, const char *folder, const char *pop,
                 struct arena *arena, struct ledger_marks *ret_marks, bool *ret_found)
{
    *ledger = (struct ledger){ .env = env };
    list_init(&ledger->windows);
    snprintf(ledger->folder, sizeof ledger->folder, "%s", folder);
    snprintf(ledger->pop, sizeof ledger->pop, "%s", pop);
    struct found found = { .ledger = ledger, .arena = arena };
    if (!read_newest(&found))
        retry(ledger);
    if (!found.id)
        id_new(ledger);
    read_done(ledger, &found);
    marks_set(ledger, &found.marks);
    *ret_marks = ledger->marks;
    *ret_found = found.id;
    write_soon(ledger);
}

void ledger_skip(struct ledger *ledger)
{
    ledger->last += ledger->torn ? LEDGER_SKIP : 0;
    ledger->torn = false;
}

void ledger_close(struct ledger *ledger)
{
    struct ledger_window *window;
    if (!ledger->env)
        return;
    env_timer_stop(ledger->env, &ledger->retry);
    LIST_EACH (window, &ledger->windows, struct ledger_window, link)
        window_free(ledger, window);
    if (ledger->writing) /* a save that nobody waits for any more has its bytes from here */
        arena_free(ledger->writing);
    ledger->writing = NULL;
    arena_free(ledger->marks_arena);
    ledger->marks_arena = NULL;
}
