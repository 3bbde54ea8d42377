/* The probe: touches a page at random at a set rate and times it, as the guest's applications would feel it. */
#ifndef PROBE_H
#define PROBE_H

#include <sched.h>

#include "content.h"
#include "ending.h"
#include "phases.h"

/* Bucket 0 holds accesses of at most 1 us, bucket n those of at most 2^n and more than half of it; the last one all
 * that took longer. */
#define BUCKETS 27
#define LATENCY_PERIOD_NS 100000000u
/* Above the workers, so that a busy vCPU does not hold it back; below the ticker. */
#define PROBE_PRIORITY 40

struct latencies {
    uint64_t counts[BUCKETS];
    uint64_t accesses, sum_ns, most_ns;
};

struct probe {
    pthread_t thread;
    char *memory;
    uint64_t pages;
};

static void latency_count(struct latencies *latencies, uint64_t ns)
{
    int bucket = 0;

    while (bucket < BUCKETS - 1 && ns > 1000ull << bucket)
        bucket++;
    latencies->counts[bucket]++;
    latencies->accesses++;
    latencies->sum_ns += ns;
    if (ns > latencies->most_ns)
        latencies->most_ns = ns;
}

static void print_latency(struct latencies *latencies, uint64_t sequence, uint64_t taken_ns)
{
    char before[64], after[LONGEST_LINE_BYTES / 2];
    size_t length;

    snprintf(before, sizeof before, "latency %llu", (unsigned long long)sequence);
    length = (size_t)snprintf(after, sizeof after, "%llu %llu %llu", (unsigned long long)taken_ns,
                              (unsigned long long)latencies->sum_ns, (unsigned long long)latencies->most_ns);
    for (int i = 0, first = 1; i < BUCKETS; i++)
        if (latencies->counts[i]) {
            length += (size_t)snprintf(after + length, sizeof after - length, "%c%d=%llu", first ? ' ' : ',', i,
                                       (unsigned long long)latencies->counts[i]);
            first = 0;
        }
    line_print(before, after);
    *latencies = (struct latencies){0};
}

/* Reads a word, or adds 0 to it: that dirties its page and leaves to the workers what it holds. */
static uint64_t touch(uint64_t *word, int write)
{
    uint64_t begin_ns = monotonic_ns();

    if (write)
        __asm__ volatile("lock; addq $0, %0" : "+m"(*word));
    else
        (void)*(volatile uint64_t *)word;
    return monotonic_ns() - begin_ns;
}

/* Its accesses are of the workload's own kind: it writes as often as the workers do, and not at all where they idle. */
static int probe_writes(const uint64_t *values, uint64_t *state)
{
    return values[PATTERN] != IDLE && values[PATTERN] != ONCE && drawn(state, values[WRITE_PERCENT]);
}

static void *probe_for_ever(void *argument)
{
    const struct probe *probe = argument;
    struct sched_param priority = {.sched_priority = PROBE_PRIORITY};
    uint64_t period_ns = 1000000000u / setting_of(&plan, PROBE_HZ), state = seed_of(UINT64_MAX, UINT64_MAX);
    uint64_t due_ns = monotonic_ns(), line_ns = due_ns, sequence = 0, now_ns;
    struct latencies latencies = {0};
    unsigned phase = 0;

    end_if(sched_setscheduler(0, SCHED_FIFO, &priority) != 0, "sched_setscheduler");
    for (;;) {
        char *page;

        due_ns += period_ns;
        now_ns = monotonic_ns();
        if (due_ns < now_ns) /* accesses that were slept through are left out, not made up for in a burst */
            due_ns += (now_ns - due_ns + period_ns - 1) / period_ns * period_ns;
        sleep_until(due_ns);
        phase = phase_now(&plan, phase);
        page = probe->memory + drawn_below(&state, probe->pages) * PAGE_BYTES;
        latency_count(&latencies, touch((uint64_t *)page + drawn_below(&state, PAGE_WORDS),
                                        probe_writes(plan.phases[phase].values, &state)));
        now_ns = monotonic_ns();
        if (now_ns - line_ns >= LATENCY_PERIOD_NS) {
            print_latency(&latencies, sequence++, now_ns - line_ns);
            line_ns = now_ns;
        }
    }
    return NULL;
}

static void start_probe(struct probe *probe, const pthread_attr_t *attributes)
{
    if (setting_of(&plan, PROBE_HZ) == 0)
        return;
    errno = pthread_create(&probe->thread, attributes, probe_for_ever, probe);
    end_if(errno != 0, "pthread_create");
}

#endif
