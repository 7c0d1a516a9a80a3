/* SPDX-License-Identifier: Apache-2.0 */
#include "soon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h> /* after the above */

#include <pthread.h>
#include <time.h>

#include "io/timer.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int64_t length_ms = -1;
static unsigned started;

void soon_begin(int64_t ms)
{
    pthread_mutex_lock(&lock);
    length_ms = ms;
    started = 0;
    pthread_mutex_unlock(&lock);
}

unsigned soon_count(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = started;
    pthread_mutex_unlock(&lock);
    return count;
}

void soon_await(unsigned count)
{
    struct timespec until;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&lock);
    while (started < count && r == 0)
        r = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until);
    unsigned seen = started;
    pthread_mutex_unlock(&lock);
    if (seen < count)
        fail_msg("%u timers were started, not %u", seen, count);
}

void __real_timer_start(struct timer *timer, int64_t ms);
void __wrap_timer_start(struct timer *timer, int64_t ms);

void __wrap_timer_start(struct timer *timer, int64_t ms)
{
    pthread_mutex_lock(&lock);
    if (ms == length_ms) {
        ms = 1; /* of 0, started anew as it is due, a loop sees no end */
        started++;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    __real_timer_start(timer, ms);
}
