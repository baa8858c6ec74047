/* Preloaded, it lets the n-th call that changes the disk fail or end the process: whatever library makes the call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, ONCE, EVER };
static int kind, at, calls;

void faults_arm(int how, int when) { kind = how, at = when, calls = 0; }
int faults_calls(void) { return calls; }

/* 1 where the call must fail; does not return where the process ends. */
static int due(void) {
  calls++;
  if (kind == KILL && calls == at) _exit(137);
  if ((kind == ONCE && calls == at) || (kind == EVER && calls >= at)) {
    errno = ENOSPC;
    return 1;
  }
  return 0;
}

static int regular(int file) {
  struct stat found;
  return !fstat(file, &found) && S_ISREG(found.st_mode);
}

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, ...) \
  type name parameters { return due() ? -1 : NEXT(name)(__VA_ARGS__); }

/* A process that ends inside a write leaves half of it. */
ssize_t write(int file, const void *data, size_t size) {
  if (!regular(file)) return NEXT(write)(file, data, size);
  if (kind == KILL && calls + 1 == at) NEXT(write)(file, data, size / 2);
  return due() ? -1 : NEXT(write)(file, data, size);
}

#define OPEN(name)                                              \
  int name(const char *path, int flags, ...) {                  \
    va_list more;                                               \
    va_start(more, flags);                                      \
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;   \
    va_end(more);                                               \
    if (flags & O_CREAT && due()) return -1;                    \
    return NEXT(name)(path, flags, mode);                       \
  }
OPEN(open)
OPEN(open64)

WRAP(ssize_t, writev, (int file, const struct iovec *parts, int count), file, parts, count)
WRAP(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t place), file, data, size, place)
WRAP(int, ftruncate64, (int file, off64_t size), file, size)
WRAP(int, fsync, (int file), file)
WRAP(int, fdatasync, (int file), file)
WRAP(int, rename, (const char *from, const char *to), from, to)
WRAP(int, renameat, (int a, const char *from, int b, const char *to), a, from, b, to)
WRAP(int, mkdir, (const char *path, mode_t mode), path, mode)
WRAP(int, rmdir, (const char *path), path)
WRAP(int, unlink, (const char *path), path)
WRAP(int, unlinkat, (int folder, const char *path, int flags), folder, path, flags)
WRAP(int, chmod, (const char *path, mode_t mode), path, mode)
WRAP(int, fchmodat, (int folder, const char *path, mode_t mode, int flags), folder, path, mode, flags)
