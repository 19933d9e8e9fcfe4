/* Sets the calendar of every process that loads it: CLOCK_OFFSET seconds ahead of the true one (behind, if negative).
 *
 * For scripts/test-at. Only what tells the time is replaced; whatever waits does so by the monotonic clock or for a
 * while, and is left alone. libfaketime 0.9.10 wraps waits as well: under it Postgres' own time-outs (of statements,
 * locks, deadlocks) never come, since a signal that arrives within a wrapped epoll_wait is told the true time, and
 * time.sleep of Python 3.11 is refused by the kernel.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t offset;
static int (*true_clock_gettime)(clockid_t, struct timespec *);

/* Before anything else runs: later calls may come from a signal handler. */
__attribute__((constructor)) static void begin(void)
{
    const char *said = getenv("CLOCK_OFFSET");
    true_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    offset = said ? atoll(said) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *told)
{
    if (!true_clock_gettime)
        begin();
    int failed = true_clock_gettime(clock, told);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        told->tv_sec += offset;
    return failed;
}

int gettimeofday(struct timeval *told, void *zone)
{
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    if (!failed) {
        told->tv_sec = now.tv_sec;
        told->tv_usec = now.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *told)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return (time_t)-1;
    if (told)
        *told = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *told, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, told) ? base : 0;
}
