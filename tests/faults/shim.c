/* Makes the n-th write, flush or meta page write of an LMDB data file fail.  Loaded by LD_PRELOAD; armed by
 * fault_arm() through ctypes.  LMDB writes its meta page through a handle of its own that is opened O_DSYNC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DATA = 1, FLUSH = 2, META = 4 };

static volatile int armed_kinds, countdown, error_number, for_good, after, fired, seen;

void fault_arm(int kinds, int nth, int error, int lasting, int write_first)
{
    fired = seen = 0;
    countdown = nth;
    error_number = error;
    for_good = lasting;
    after = write_first;
    armed_kinds = kinds;
}

void fault_disarm(void) { armed_kinds = 0; }
int fault_fired(void) { return fired; }
int fault_seen(void) { return seen; }

static int is_data_file(int fd)
{
    char link[64], path[4096];
    ssize_t size;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size < 8)
        return 0;
    return memcmp(path + size - 8, "data.mdb", 8) == 0;
}

/* Whether this call shall fail. */
static int strikes(int fd, int kind)
{
    if (!armed_kinds || !is_data_file(fd))
        return 0;
    if (kind == DATA && (fcntl(fd, F_GETFL) & O_DSYNC))
        kind = META;
    if (fired && for_good) {
        fired++;
        return 1;
    }
    if (!(kind & armed_kinds))
        return 0;
    seen++;
    if (--countdown != 0)
        return 0;
    fired++;
    return 1;
}

#define FAULTY(type, name, kind, parameters, arguments)                         \
    type name parameters                                                        \
    {                                                                           \
        static type(*real) parameters;                                          \
        if (!real)                                                              \
            real = (type(*) parameters)dlsym(RTLD_NEXT, #name);                 \
        if (strikes(fd, kind)) {                                                \
            if (after && fired == 1)                                            \
                real arguments;                                                 \
            errno = error_number;                                               \
            return -1;                                                          \
        }                                                                       \
        return real arguments;                                                  \
    }

FAULTY(ssize_t, write, DATA, (int fd, const void *data, size_t size), (fd, data, size))
FAULTY(ssize_t, pwrite, DATA, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FAULTY(ssize_t, pwrite64, DATA, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FAULTY(ssize_t, writev, DATA, (int fd, const struct iovec *parts, int count), (fd, parts, count))
FAULTY(ssize_t, pwritev, DATA, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at))
FAULTY(ssize_t, pwritev64, DATA, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at))
FAULTY(int, fdatasync, FLUSH, (int fd), (fd))
FAULTY(int, fsync, FLUSH, (int fd), (fd))
