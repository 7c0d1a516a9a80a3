/* SPDX-License-Identifier: Apache-2.0 */
#include "io/alarm.h"

#include <assert.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/auto.h"
#include "io/socket.h"

#define NS_PER_S INT64_C(1'000'000'000)

struct alarm {
    int fd;
    struct watch *watch;
    void (*on_due)(void *data);
    void *data;
};

static void on_readable(struct watch *watch, unsigned events, void *data)
{
    struct alarm *alarm = data;
    uint64_t times;
    (void)watch;
    (void)events;
    if (read(alarm->fd, &times, sizeof times) == sizeof times)
        alarm->on_due(alarm->data); /* may free it */
}

struct alarm *alarm_new(struct loop *loop, void (*on_due)(void *data), void *data)
{
    struct alarm *alarm = mem_zalloc(sizeof *alarm);
    alarm->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (alarm->fd < 0)
        mem_abort(sizeof *alarm);
    alarm->on_due = on_due;
    alarm->data = data;
    alarm->watch = watch_new(loop, alarm->fd, WATCH_READ, on_readable, alarm);
    return alarm;
}

void alarm_free(struct alarm *alarm)
{
    if (!alarm)
        return;
    watch_free(alarm->watch);
    close(alarm->fd);
    free(alarm);
}

void alarm_set(struct alarm *alarm, int64_t due_ns)
{
    struct itimerspec at = {};
    if (due_ns <= 0) /* all zeros would be never */
        due_ns = 1;
    if (due_ns != INT64_MAX)
        at.it_value = (struct timespec){ due_ns / NS_PER_S, due_ns % NS_PER_S };
    int r = timerfd_settime(alarm->fd, TFD_TIMER_ABSTIME, &at, NULL);
    assert(r == 0);
    (void)r;
}
