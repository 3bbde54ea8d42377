/* Measures the guest's loops beside others, and what its workloads make of them page by page, in bytes a second; runs as
 * a plain program, or as PID 1 of a guest. Prints "result THREADS LOOP BYTES_PER_SECOND" lines, then "end". */
#define main guest_main
#include "init.c"
#undef main

#define SHARE_BYTES (16u * MIB)
#define ROUND_NS 200000000u
#define ROUNDS 5
#define MOST_THREADS 2

/* guestperf's kind: one page of random data is xored over every page; two loads, xor, store, 8 bytes. */
static uint64_t random_page[PAGE_BYTES / 8];

static void xor_page(void *memory, size_t bytes, struct keystream *stream)
{
    (void)stream;
    for (char *page = memory; page < (char *)memory + bytes; page += PAGE_BYTES) {
        uint64_t *word = (uint64_t *)page;

        for (size_t i = 0; i < PAGE_BYTES / 8; i++)
            word[i] ^= random_page[i];
    }
}

/* The same, as gcc vectorises it with SSE2. */
__attribute__((optimize("O3", "tree-vectorize"))) static void xor_page_wide(void *memory, size_t bytes,
                                                                           struct keystream *stream)
{
    (void)stream;
    for (char *page = memory; page < (char *)memory + bytes; page += PAGE_BYTES) {
        uint64_t *word = (uint64_t *)page;

        for (size_t i = 0; i < PAGE_BYTES / 8; i++)
            word[i] ^= random_page[i];
    }
}

static void copy_page(void *memory, size_t bytes, struct keystream *stream)
{
    (void)stream;
    for (char *page = memory; page < (char *)memory + bytes; page += PAGE_BYTES)
        memcpy(page, random_page, PAGE_BYTES);
}

static void set_all(void *memory, size_t bytes, struct keystream *stream)
{
    memset(memory, (int)stream->lane[0]++, bytes);
}

/* What is measured: a loop over memory in turn, or the visits of a workload with this one setting. */
struct subject {
    const char *name;
    keystream_loop *loop;
    int setting;
    uint64_t value;
};

static const struct subject OTHERS[] = {
    {"guestperf", xor_page, 0, 0},
    {"guestperf-wide", xor_page_wide, 0, 0},
    {"memcpy", copy_page, 0, 0},
    {"memset", set_all, 0, 0},
    {"random", NULL, PATTERN, RANDOM},
    {"hotset", NULL, PATTERN, HOTSET},
    {"zipf", NULL, PATTERN, ZIPF},
    {"zero-80", NULL, ZERO_PERCENT, 80},
    {"compressible-75", NULL, COMPRESSIBLE_PERCENT, 75},
    {"change-2", NULL, CHANGE_PERCENT, 2},
    {"read", NULL, WRITE_PERCENT, 0},
};

struct runner {
    pthread_t thread;
    const struct subject *subject;
    unsigned cpu;
    char *memory;
    double bytes_per_second;
};

/* The visits of one thread. */
struct visitor {
    uint64_t values[SETTING_COUNT], random;
    struct content content;
    struct order order;
};

static pthread_barrier_t begin;

static struct visitor visitor_of(const struct runner *runner)
{
    struct visitor visitor = {.values = {[PATTERN] = SEQUENTIAL, [HOT_MEMORY_PERCENT] = 10, [HOT_ACCESS_PERCENT] = 90,
                                         [ZIPF_EXPONENT_PERCENT] = 99, [WRITE_PERCENT] = 100, [CHANGE_PERCENT] = 100},
                              .random = seed_of(runner->cpu, UINT64_MAX)};

    visitor.values[runner->subject->setting] = runner->subject->value;
    visitor.content = content_of(visitor.values);
    visitor.order = order_of(visitor.values, SHARE_BYTES / PAGE_BYTES);
    return visitor;
}

static void work_chunk(const struct runner *runner, size_t offset, struct keystream *stream, struct visitor *visitor)
{
    if (runner->subject->loop) {
        runner->subject->loop(runner->memory + offset, CHUNK_BYTES, stream);
        return;
    }
    for (size_t done = 0; done < CHUNK_BYTES; done += PAGE_BYTES)
        page_visit(runner->memory + next_page(&visitor->order, visitor->values, &visitor->random) * PAGE_BYTES,
                   &visitor->content, &visitor->random);
}

static void *run(void *argument)
{
    struct runner *runner = argument;
    struct keystream stream;
    struct visitor visitor = {0};
    uint64_t begin_ns, taken_ns, bytes = 0;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(runner->cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    keystream_seed(&stream, runner->cpu, 0);
    chosen->loop(runner->memory, SHARE_BYTES, &stream);
    if (!runner->subject->loop)
        visitor = visitor_of(runner);
    pthread_barrier_wait(&begin);
    begin_ns = monotonic_ns();
    do {
        for (size_t offset = 0; offset < SHARE_BYTES; offset += CHUNK_BYTES)
            work_chunk(runner, offset, &stream, &visitor);
        bytes += SHARE_BYTES;
        taken_ns = monotonic_ns() - begin_ns;
    } while (taken_ns < ROUND_NS);
    runner->bytes_per_second = (double)bytes * 1e9 / (double)taken_ns;
    if (visitor.order.ranks)
        munmap((void *)visitor.order.ranks, SHARE_BYTES / PAGE_BYTES * sizeof *visitor.order.ranks);
    return NULL;
}

static double measure(const struct subject *subject, unsigned threads, struct runner *runners)
{
    double sum = 0;

    pthread_barrier_init(&begin, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        runners[i].subject = subject;
        if (pthread_create(&runners[i].thread, NULL, run, &runners[i]) != 0)
            exit(1);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(runners[i].thread, NULL);
        sum += runners[i].bytes_per_second;
    }
    return sum;
}

int main(void)
{
    enum { OTHER_COUNT = sizeof OTHERS / sizeof OTHERS[0], LOOP_COUNT = CANDIDATE_COUNT + OTHER_COUNT };
    struct subject loops[LOOP_COUNT];
    char said[384];
    struct runner runners[MOST_THREADS];
    int is_guest = getpid() == 1;
    uint64_t state = 1;

    if (is_guest) {
        open_console();
        mount("sysfs", "/sys", "sysfs", 0, NULL);
    }
    choose_loop(said, sizeof said);
    for (unsigned i = 0; i < LOOP_COUNT; i++)
        loops[i] = i < CANDIDATE_COUNT ? (struct subject){CANDIDATES[i].name, CANDIDATES[i].loop, 0, 0}
                                       : OTHERS[i - CANDIDATE_COUNT];
    for (unsigned i = 0; i < MOST_THREADS; i++)
        runners[i] = (struct runner){.cpu = i, .memory = allocate(SHARE_BYTES)};
    for (size_t i = 0; i < PAGE_BYTES / 8; i++)
        random_page[i] = splitmix64(&state);
    for (unsigned threads = 1; threads <= MOST_THREADS; threads++) {
        double best[LOOP_COUNT] = {0};

        for (int round = 0; round < ROUNDS; round++) /* so a slow moment of the host hits all of them alike */
            for (unsigned i = 0; i < LOOP_COUNT; i++) {
                double rate = measure(&loops[i], threads, runners);

                if (rate > best[i])
                    best[i] = rate;
            }
        for (unsigned i = 0; i < LOOP_COUNT; i++)
            printf("result %u %s %.0f\n", threads, loops[i].name, best[i]);
    }
    puts("end");
    fflush(stdout);
    if (is_guest)
        power_off();
    return 0;
}
