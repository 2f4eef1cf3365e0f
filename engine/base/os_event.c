/* os_event.c: a descriptor that is readable while something waits. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/base/os.h"

int wk_os_event_open(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void wk_os_event_set(int fd) {
    const uint64_t one = 1;
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) return; /* full counter: readable already */
}

void wk_os_event_clear(int fd) {
    uint64_t n;
    if (fd >= 0 && read(fd, &n, sizeof(n)) < 0) return; /* was not set */
}

void wk_os_event_close(int fd) {
    if (fd >= 0) (void)close(fd); /* nothing was written to a file */
}
