/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress is drawn by a thread of its own, so that it also moves while the command waits for an
 * answer, writes a backup, or hashes from a slow disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "io/loop.h"

enum { AFTER_MS = 400, EVERY_MS = 200, BAR_COLUMNS = 30, NAME_COLUMNS = 24, LINE_COLUMNS = 79 };

/* The lock is held. */
static void draw(struct cli_progress *progress)
{
    char line[256], bar[BAR_COLUMNS + 1];
    int64_t seconds = (loop_now_ns() - progress->started_ns) / 1'000'000'000;
    uint64_t done = progress->done, total = progress->total;
    if (total) {
        size_t filled =
            done < total ? (size_t)((double)done / (double)total * BAR_COLUMNS) : BAR_COLUMNS;
        memset(bar, '.', BAR_COLUMNS);
        memset(bar, '#', filled);
        bar[BAR_COLUMNS] = '\0';
        snprintf(line, sizeof line, "%.*s [%s] %" PRIu64 " of %" PRIu64 " KiB", NAME_COLUMNS,
                 progress->what, bar, done / 1024, total / 1024);
    } else {
        snprintf(line, sizeof line, "%.*s, %" PRId64 " s%s%s", NAME_COLUMNS, progress->what,
                 seconds, progress->text[0] ? ": " : "", progress->text);
    }
    size_t size = strnlen(line, LINE_COLUMNS);
    fputc('\r', stderr);
    cli_print_text(stderr, (struct slice){ line, size });
    fputs("\x1b[K", stderr);
    progress->drawn = true;
}

static struct timespec after_ms(int64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += ms * 1'000'000;
    at.tv_sec += at.tv_nsec / 1'000'000'000;
    at.tv_nsec %= 1'000'000'000;
    return at;
}

static void *drawing(void *data)
{
    struct cli_progress *progress = data;
    struct timespec due = after_ms(AFTER_MS);
    pthread_mutex_lock(&progress->lock);
    while (!progress->ended) {
        if (pthread_cond_timedwait(&progress->changed, &progress->lock, &due) != ETIMEDOUT)
            continue;
        draw(progress);
        due = after_ms(EVERY_MS);
    }
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

void cli_progress_begin(struct cli_progress *progress, const char *what)
{
    pthread_condattr_t attributes;
    *progress = (struct cli_progress){ .what = what, .started_ns = loop_now_ns() };
    pthread_mutex_init(&progress->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&progress->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    /* Without a thread there is no progress to see, and nothing else is lost. */
    progress->running =
        isatty(STDERR_FILENO) && pthread_create(&progress->thread, NULL, drawing, progress) == 0;
}

void cli_progress_set(struct cli_progress *progress, uint64_t done, uint64_t total)
{
    pthread_mutex_lock(&progress->lock);
    progress->done = done;
    progress->total = total;
    pthread_mutex_unlock(&progress->lock);
}

void cli_progress_text(struct cli_progress *progress, struct slice text)
{
    size_t size = text.size < sizeof progress->text ? text.size : sizeof progress->text - 1;
    pthread_mutex_lock(&progress->lock);
    if (size)
        memcpy(progress->text, text.data, size);
    progress->text[size] = '\0';
    pthread_mutex_unlock(&progress->lock);
}

void cli_progress_end(struct cli_progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    progress->ended = true;
    pthread_cond_signal(&progress->changed);
    pthread_mutex_unlock(&progress->lock);
    if (progress->running)
        pthread_join(progress->thread, NULL);
    if (progress->drawn)
        fputs("\r\x1b[K", stderr);
    pthread_cond_destroy(&progress->changed);
    pthread_mutex_destroy(&progress->lock);
}
