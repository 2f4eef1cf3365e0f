/* os_cpu.c: on which CPU a thread runs, and how it gets off. */
#include <assert.h>
#include <sched.h>
#include <sys/resource.h>

#include "engine/base/os.h"

int wk_os_cpu(void) { return sched_getcpu(); }

/* The scheduler is asked for one CPU, and then given its freedom back: it does not move the thread again by that. */
bool wk_os_cpu_move(const int32_t *taken, int n) {
    cpu_set_t all, one, busy;
    if (sched_getaffinity(0, sizeof(all), &all)) return false; /* more CPUs than a set holds */
    CPU_ZERO(&busy);
    for (int i = 0; i < n; i++) {
        const int32_t cpu = __atomic_load_n(&taken[i], __ATOMIC_RELAXED);
        if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET((size_t)cpu, &busy);
    }
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || CPU_ISSET(cpu, &busy)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof(one), &one)) return false;
        return sched_setaffinity(0, sizeof(all), &all) == 0;
    }
    return false;
}

static_assert(sizeof(cpu_set_t) == WK_OS_MASK * sizeof(uint64_t), "the mask of os.h is a cpu_set_t");

bool wk_os_cpu_bind(int32_t cpu, uint64_t *mask) {
    cpu_set_t one;
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(one), (cpu_set_t *)(void *)mask)) return false;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    return sched_setaffinity(0, sizeof(one), &one) == 0;
}

void wk_os_cpu_free(const uint64_t *mask) {
    (void)sched_setaffinity(0, WK_OS_MASK * sizeof(uint64_t),
                            (const cpu_set_t *)(const void *)mask); /* a CPU may be gone: then it stays where it is */
}

void wk_os_faults(uint64_t *minor, uint64_t *major) {
    struct rusage u = {0};
    (void)getrusage(RUSAGE_SELF, &u); /* cannot fail for this process */
    *minor = (uint64_t)u.ru_minflt;
    *major = (uint64_t)u.ru_majflt;
}
