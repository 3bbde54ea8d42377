/* Measures the guest's loops beside others, in bytes a second; runs as a plain program, or as PID 1 of a guest. Prints
 * "result THREADS LOOP BYTES_PER_SECOND" lines, then "end". */
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

static const struct candidate OTHERS[] = {
    {"guestperf", xor_page, 0}, {"guestperf-wide", xor_page_wide, 0}, {"memcpy", copy_page, 0}, {"memset", set_all, 0}};

struct runner {
    pthread_t thread;
    unsigned cpu;
    char *memory;
    double bytes_per_second;
};

static pthread_barrier_t begin;

static void *run(void *argument)
{
    struct runner *runner = argument;
    struct keystream stream;
    uint64_t begin_ns, taken_ns, bytes = 0;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(runner->cpu, &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    keystream_seed(&stream, runner->cpu, 0);
    chosen->loop(runner->memory, SHARE_BYTES, &stream);
    pthread_barrier_wait(&begin);
    begin_ns = monotonic_ns();
    do {
        for (size_t offset = 0; offset < SHARE_BYTES; offset += CHUNK_BYTES)
            chosen->loop(runner->memory + offset, CHUNK_BYTES, &stream);
        bytes += SHARE_BYTES;
        taken_ns = monotonic_ns() - begin_ns;
    } while (taken_ns < ROUND_NS);
    runner->bytes_per_second = (double)bytes * 1e9 / (double)taken_ns;
    return NULL;
}

static double measure(const struct candidate *loop, unsigned threads, struct runner *runners)
{
    double sum = 0;

    chosen = loop;
    pthread_barrier_init(&begin, NULL, threads);
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&runners[i].thread, NULL, run, &runners[i]) != 0)
            exit(1);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(runners[i].thread, NULL);
        sum += runners[i].bytes_per_second;
    }
    return sum;
}

int main(void)
{
    enum { OTHER_COUNT = sizeof OTHERS / sizeof OTHERS[0], LOOP_COUNT = CANDIDATE_COUNT + OTHER_COUNT };
    const struct candidate *loops[LOOP_COUNT];
    struct runner runners[MOST_THREADS];
    int is_guest = getpid() == 1;
    uint64_t state = 1;

    if (is_guest) {
        open_console();
        mount("sysfs", "/sys", "sysfs", 0, NULL);
    }
    for (unsigned i = 0; i < LOOP_COUNT; i++)
        loops[i] = i < CANDIDATE_COUNT ? &CANDIDATES[i] : &OTHERS[i - CANDIDATE_COUNT];
    for (unsigned i = 0; i < MOST_THREADS; i++)
        runners[i] = (struct runner){.cpu = i, .memory = allocate(SHARE_BYTES)};
    for (size_t i = 0; i < PAGE_BYTES / 8; i++)
        random_page[i] = splitmix64(&state);
    for (unsigned threads = 1; threads <= MOST_THREADS; threads++) {
        double best[LOOP_COUNT] = {0};

        for (int round = 0; round < ROUNDS; round++) /* so a slow moment of the host hits all of them alike */
            for (unsigned i = 0; i < LOOP_COUNT; i++) {
                double rate = measure(loops[i], threads, runners);

                if (rate > best[i])
                    best[i] = rate;
            }
        for (unsigned i = 0; i < LOOP_COUNT; i++)
            printf("result %u %s %.0f\n", threads, loops[i]->name, best[i]);
    }
    puts("end");
    fflush(stdout);
    if (is_guest)
        power_off();
    return 0;
}
