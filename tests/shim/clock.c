/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test-only, preloaded: the wall clock is ahead by what the file $CLOCK_SHIM_FILE says, as a
 * little-endian number of seconds, at any moment. The monotonic clock is left alone.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SHOWN [[gnu::visibility("default")]]

static const volatile int64_t *ahead;

[[gnu::constructor]] static void begin(void)
{
    const char *path = getenv("CLOCK_SHIM_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *memory = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        ahead = memory;
}

SHOWN int clock_gettime(clockid_t clock, struct timespec *now)
{
    static typeof(&clock_gettime) real;
    if (!real)
        real = (typeof(real))dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(clock, now);
    if (r == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return r;
}

SHOWN int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    int r = clock_gettime(CLOCK_REALTIME, &exact);
    *now = (struct timeval){ exact.tv_sec, exact.tv_nsec / 1000 };
    return r;
}

SHOWN time_t time(time_t *ret)
{
    struct timespec exact;
    (void)clock_gettime(CLOCK_REALTIME, &exact);
    if (ret)
        *ret = exact.tv_sec;
    return exact.tv_sec;
}
