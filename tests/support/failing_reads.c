/* Lets reads of one file fail with EIO, as a disk or a network volume does for a moment.
 *
 * Preloaded into a process: $FAILING_READS_OF names the file's end, $FAILING_READS_FILE a file whose first byte says how
 * many reads still fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_read)(int, void *, size_t);

static int fails(int descriptor) {
    char link[64], path[4096], left = 0;
    const char *wanted = getenv("FAILING_READS_OF"), *counter = getenv("FAILING_READS_FILE");
    if (!wanted || !counter) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)strlen(wanted)) return 0;
    path[length] = 0;
    if (strcmp(path + length - strlen(wanted), wanted)) return 0;
    int file = open(counter, O_RDWR);
    if (file < 0) return 0;
    if (!real_pread) real_pread = dlsym(RTLD_NEXT, "pread64");
    int is_failing = real_pread(file, &left, 1, 0) == 1 && left > '0';
    if (is_failing) {
        left--;
        if (pwrite(file, &left, 1, 0) != 1) is_failing = 0;
    }
    close(file);
    return is_failing;
}

ssize_t pread64(int descriptor, void *into, size_t size, off_t at) {
    if (!real_pread) real_pread = dlsym(RTLD_NEXT, "pread64");
    if (fails(descriptor)) return errno = EIO, -1;
    return real_pread(descriptor, into, size, at);
}

ssize_t pread(int descriptor, void *into, size_t size, off_t at) { return pread64(descriptor, into, size, at); }

ssize_t read(int descriptor, void *into, size_t size) {
    if (!real_read) real_read = dlsym(RTLD_NEXT, "read");
    if (fails(descriptor)) return errno = EIO, -1;
    return real_read(descriptor, into, size);
}
