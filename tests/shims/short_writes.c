/* Preloaded into a program under test: reads and writes of regular files come back short, or with EINTR, as the kernel may let them.
 *
 * A short write has written what it says, and a short read has read it: POSIX allows both at any time, and a program must go on from there.
 * EINTR is what a call says that a signal interrupted before it did anything.
 *
 * SHORT_WRITES_SEED  where chance begins
 * SHORT_WRITES_COUNT a file of two 64-bit numbers that are counted up: calls cut short, calls interrupted
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static _Atomic uint64_t state;
static _Atomic uint64_t *counts;

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("SHORT_WRITES_SEED");
    const char *path = getenv("SHORT_WRITES_COUNT");
    state = (seed ? strtoull(seed, NULL, 10) : 1) ^ ((uint64_t)getpid() << 32);
    if (path) {
        int fd = open(path, O_RDWR | O_CREAT, 0600);
        if (fd >= 0 && ftruncate(fd, 16) == 0) {
            void *shared = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (shared != MAP_FAILED) counts = shared;
        }
        if (fd >= 0) close(fd);
    }
}

/* SplitMix64. */
static uint64_t bits(void) {
    uint64_t z = atomic_fetch_add(&state, 0x9E3779B97F4A7C15u) + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int is_regular(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

static void count(int which) {
    if (counts) atomic_fetch_add(&counts[which], 1);
}

/* How many of `wanted` bytes this call takes; -1 to be interrupted. */
static ssize_t share(int fd, size_t wanted) {
    uint64_t chance = bits() % 16;
    if (wanted < 2 || chance > 4 || !is_regular(fd)) return (ssize_t)wanted;
    if (chance == 0) {
        count(1);
        errno = EINTR;
        return -1;
    }
    count(0);
    /* Half of the times anything, half of the times nearly all or nearly nothing. */
    size_t part = bits() % wanted;
    if (bits() & 1) part = bits() & 1 ? wanted - 1 - bits() % (wanted < 16 ? 1 : 8) : bits() % 8;
    if (part >= wanted) part = wanted - 1;
    return part == 0 ? 1 : (ssize_t)part;
}

#define CUT(type, name, params, call)                        \
    type name params {                                       \
        static type(*real) params;                           \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name); \
        ssize_t part = share(fd, len);                       \
        return part < 0 ? -1 : real call;                    \
    }

CUT(ssize_t, write, (int fd, const void *from, size_t len), (fd, from, (size_t)part))
CUT(ssize_t, read, (int fd, void *into, size_t len), (fd, into, (size_t)part))
CUT(ssize_t, pwrite, (int fd, const void *from, size_t len, off_t at), (fd, from, (size_t)part, at))
CUT(ssize_t, pread, (int fd, void *into, size_t len, off_t at), (fd, into, (size_t)part, at))
CUT(ssize_t, pwrite64, (int fd, const void *from, size_t len, off64_t at), (fd, from, (size_t)part, at))
CUT(ssize_t, pread64, (int fd, void *into, size_t len, off64_t at), (fd, into, (size_t)part, at))
