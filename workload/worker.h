/* A worker: the thread of one vCPU that works its share of the working set for ever, phase by phase. */
#ifndef WORKER_H
#define WORKER_H

#include <sched.h>

#include "order.h"
#include "pages.h"
#include "phases.h"

/* Between two looks at the clock for the rate limit, and at how much is left to the next line. */
#define CHUNK_BYTES (256u << 10)
/* What a worker that was held up may catch up on; the rest is forgotten: a throttled guest must not burst later. */
#define RATE_DEBT_NS 100000000u
/* A limited worker does so long a stretch at once: chunks of low rates would come in bursts. */
#define RATE_STRETCH_PER_SECOND 100u
/* A worker that a limit slows down, or that idles, prints a line at latest after this time. */
#define LINE_NS 100000000u

struct worker {
    pthread_t thread;
    unsigned vcpu, phase;
    char *share;
    size_t share_bytes, offset; /* of the pass over the share */
    uint64_t pass;
    struct keystream stream; /* of that pass */
    struct content content;
    struct order orders[MOST_PHASES + 1]; /* one a phase */
    uint64_t random;                      /* the state of all that is drawn */
    uint64_t sequence;
    uint64_t line_bytes; /* worked on since the last line */
    uint64_t line_ns;    /* when that was */
    uint64_t due_ns;     /* when the rate limit lets the next chunk begin */
};

static pthread_barrier_t faulted_in, released;

static const uint64_t *values_of(const struct worker *worker)
{
    return plan.phases[worker->phase].values;
}

static void print_xor(struct worker *worker)
{
    char before[96], after[64];
    uint64_t now_ns = monotonic_ns();

    snprintf(before, sizeof before, "xor %u %llu", worker->vcpu, (unsigned long long)worker->sequence++);
    snprintf(after, sizeof after, "%llu %llu", (unsigned long long)worker->line_bytes,
             (unsigned long long)(now_ns - worker->line_ns));
    line_print(before, after);
    worker->line_bytes = 0;
    worker->line_ns = now_ns;
}

static void keep_to_rate(struct worker *worker, size_t next_bytes)
{
    uint64_t rate = values_of(worker)[RATE_LIMIT_MIB_S] * MIB, now_ns;

    if (rate == 0)
        return;
    now_ns = monotonic_ns();
    if (worker->due_ns + RATE_DEBT_NS < now_ns)
        worker->due_ns = now_ns - RATE_DEBT_NS;
    if (now_ns - worker->line_ns >= LINE_NS && worker->line_bytes > 0)
        print_xor(worker);
    if (worker->due_ns > now_ns)
        sleep_until(worker->due_ns);
    worker->due_ns += next_bytes * 1000000000ull / rate;
}

/* How much to do before the next look at the clock: at least a page. */
static size_t stretch_bytes(const struct worker *worker)
{
    uint64_t rate = values_of(worker)[RATE_LIMIT_MIB_S] * MIB;
    uint64_t line_left = setting_of(&plan, GRANULARITY_MIB) * MIB - worker->line_bytes;
    size_t bytes = CHUNK_BYTES < line_left ? CHUNK_BYTES : line_left;

    if (rate > 0 && rate / RATE_STRETCH_PER_SECOND < bytes)
        bytes = rate / RATE_STRETCH_PER_SECOND / PAGE_BYTES * PAGE_BYTES;
    return bytes > PAGE_BYTES ? bytes : PAGE_BYTES;
}

/* The worst case: every byte in turn is rewritten, by a keystream that runs through the whole pass. */
static size_t xor_stretch(struct worker *worker, size_t bytes)
{
    if (bytes > worker->share_bytes - worker->offset)
        bytes = worker->share_bytes - worker->offset;
    if (worker->offset == 0)
        keystream_seed(&worker->stream, worker->vcpu, ++worker->pass);
    keep_to_rate(worker, bytes);
    chosen->loop(worker->share + worker->offset, bytes, &worker->stream);
    worker->offset += bytes;
    if (worker->offset == worker->share_bytes)
        worker->offset = 0;
    return bytes;
}

/* Any other pattern: page by page. */
static size_t visit_stretch(struct worker *worker, size_t bytes)
{
    struct order *order = &worker->orders[worker->phase];

    keep_to_rate(worker, bytes);
    for (size_t done = 0; done < bytes; done += PAGE_BYTES)
        page_visit(worker->share + next_page(order, values_of(worker), &worker->random) * PAGE_BYTES, &worker->content,
                   &worker->random);
    return bytes;
}

static int at_rest(const struct worker *worker)
{
    const struct order *order = &worker->orders[worker->phase];
    uint64_t pattern = values_of(worker)[PATTERN];

    return pattern == IDLE || (pattern == ONCE && order->next >= order->pages);
}

static void enter_phase(struct worker *worker, unsigned phase)
{
    char before[64];

    worker->phase = phase;
    worker->content = content_of(values_of(worker));
    if (phase > 0 && worker->vcpu == 0) {
        snprintf(before, sizeof before, "phase %u", phase);
        line_print(before, "");
    }
}

/* One stretch of work, or of rest, and the line that becomes due by it. */
static void step(struct worker *worker)
{
    size_t bytes = stretch_bytes(worker);

    if (at_rest(worker)) {
        sleep_until(monotonic_ns() + LINE_NS);
        print_xor(worker);
        return;
    }
    if (values_of(worker)[PATTERN] == SEQUENTIAL && rewrites_all(&worker->content))
        bytes = xor_stretch(worker, bytes);
    else
        bytes = visit_stretch(worker, bytes);
    worker->line_bytes += bytes;
    if (worker->line_bytes >= setting_of(&plan, GRANULARITY_MIB) * MIB)
        print_xor(worker);
}

/* Faults the share in and gives its pages what the first phase gives them; no two of them are alike. Populated first,
 * by one system call: page faults are dear under TCG, and those of several vCPUs hold each other up (32 MiB on two:
 * 700 ms without, 220 ms with). */
static void fill(struct worker *worker)
{
    madvise(worker->share, worker->share_bytes, MADV_POPULATE_WRITE); /* refused before Linux 5.14: the loop does it */
    worker->random = seed_of(worker->vcpu, UINT64_MAX); /* not a pass: its draws seed keystreams too */
    enter_phase(worker, 0);
    if (worker->content.random_words == PAGE_WORDS && worker->content.zero_percent == 0) {
        keystream_seed(&worker->stream, worker->vcpu, 0);
        chosen->loop(worker->share, worker->share_bytes, &worker->stream);
    } else {
        for (size_t offset = 0; offset < worker->share_bytes; offset += PAGE_BYTES)
            page_write(worker->share + offset, &worker->content, &worker->random);
    }
    for (unsigned i = 0; i <= plan.last; i++)
        worker->orders[i] = order_of(plan.phases[i].values, worker->share_bytes / PAGE_BYTES);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(worker->vcpu, &cpus);
    end_if(sched_setaffinity(0, sizeof cpus, &cpus) != 0, "sched_setaffinity");
    fill(worker);
    pthread_barrier_wait(&faulted_in);
    pthread_barrier_wait(&released);
    worker->line_ns = worker->due_ns = monotonic_ns();
    for (;;) {
        unsigned phase = phase_now(&plan, worker->phase);

        if (phase != worker->phase)
            enter_phase(worker, phase);
        step(worker);
    }
    return NULL;
}

#endif
