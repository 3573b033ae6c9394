/* Writes down every write to an LMDB data file and every completed flush, in order, with notes of the program between
 * them.  Loaded by LD_PRELOAD; begun and ended through ctypes.  See power_cut_images.py for the records.
 *
 * A write counts as begun when it is written down, and is durable when a flush that began later has completed, or,
 * through a handle opened O_DSYNC, when it returns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static FILE *trace;

static void record(char kind, uint64_t at, const void *data, uint32_t size)
{
    pthread_mutex_lock(&order);
    if (trace) {
        fputc(kind, trace);
        fwrite(&at, sizeof at, 1, trace);
        fwrite(&size, sizeof size, 1, trace);
        fwrite(data, 1, size, trace);
    }
    pthread_mutex_unlock(&order);
}

int trace_begin(const char *path)
{
    trace = fopen(path, "wb");
    return trace != NULL;
}

void trace_note(const char *text) { record('N', 0, text, (uint32_t)strlen(text)); }

void trace_end(void)
{
    pthread_mutex_lock(&order);
    fclose(trace);
    trace = NULL;
    pthread_mutex_unlock(&order);
}

static int is_data_file(int fd)
{
    char link[64], path[4096];
    ssize_t size;
    if (!trace)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    return size >= 8 && memcmp(path + size - 8, "data.mdb", 8) == 0;
}

static void begun(int fd, const struct iovec *parts, int count, off_t at)
{
    for (int part = 0; part < count; part++) {
        record('W', (uint64_t)at, parts[part].iov_base, (uint32_t)parts[part].iov_len);
        at += (off_t)parts[part].iov_len;
    }
    (void)fd;
}

static void returned(int fd)
{
    if (fcntl(fd, F_GETFL) & O_DSYNC)
        record('S', 0, "", 0);
}

#define REAL(type, name, parameters)                           \
    static type(*real) parameters;                             \
    if (!real)                                                 \
        real = (type(*) parameters)dlsym(RTLD_NEXT, #name)

#define WRITES(name, parameters, arguments, parts, count, at)  \
    ssize_t name parameters                                    \
    {                                                          \
        REAL(ssize_t, name, parameters);                       \
        if (!is_data_file(fd))                                 \
            return real arguments;                             \
        begun(fd, parts, count, at);                           \
        ssize_t result = real arguments;                       \
        returned(fd);                                          \
        return result;                                         \
    }

#define ONE (&(struct iovec){(void *)data, size})
#define HERE lseek(fd, 0, SEEK_CUR)

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), ONE, 1, HERE)
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), ONE, 1, at)
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), ONE, 1, at)
WRITES(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), parts, count, HERE)
WRITES(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), parts, count, at)
WRITES(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at), parts, count, at)

#define FLUSHES(name)                                          \
    int name(int fd)                                           \
    {                                                          \
        REAL(int, name, (int fd));                             \
        int result = real(fd);                                 \
        if (is_data_file(fd))                                  \
            record('F', 0, "", 0);                             \
        return result;                                         \
    }

FLUSHES(fdatasync)
FLUSHES(fsync)
