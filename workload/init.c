/* The guest's only program, PID 1: one worker a vCPU xors its share of the working set for ever, a ticker says that
 * the guest is alive, and both tell of it on the console (the protocol: console.py). Whatever is wrong ends in an error
 * line and a power-off, never in a hang. */
#define _GNU_SOURCE

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sysinfo.h>
#include <termios.h>

#include "keystream.h"
#include "line.h"
#include "settings.h"

#define MIB (1u << 20)
#define COMMAND_LINE_BYTES 4096
/* Between two looks at the clock for the rate limit, and at how much is left to the next line. */
#define CHUNK_BYTES (256u << 10)
/* What a worker that was held up may catch up on; the rest is forgotten: a throttled guest must not burst later. */
#define RATE_DEBT_NS 100000000u
#define TRIAL_BYTES MIB
#define TRIALS 4
/* Left to the kernel beside the working set. */
#define RESERVE_BYTES (4u * MIB)
#define STACK_BYTES (256u << 10)
#define TICKER_PRIORITY 50

struct worker {
    pthread_t thread;
    unsigned vcpu;
    char *share;
    size_t share_bytes;
    uint64_t sequence;
    uint64_t line_bytes; /* xored since the last line */
    uint64_t line_ns;    /* when that was */
    uint64_t due_ns;     /* when the rate limit lets the next chunk begin */
};

static uint64_t values[SETTING_COUNT];
static const struct candidate *chosen;
static pthread_barrier_t faulted_in, released;

static void power_off(void)
{
    tcdrain(STDOUT_FILENO);
    /* Without ACPI the kernel would halt instead of powering off; QEMU's -no-reboot makes a restart the end as well. */
    if (access("/sys/firmware/acpi", F_OK) == 0)
        reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

static void end(const char *reason)
{
    char text[LONGEST_LINE_BYTES / 2];

    snprintf(text, sizeof text, "%s", reason);
    line_clean(text);
    line_print("error", text);
    power_off();
}

static void end_if(int failed, const char *what)
{
    char text[256];

    if (!failed)
        return;
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    end(text);
}

/* The console as it is: no echo, no newline turned into two bytes. */
static void open_console(void)
{
    struct termios terminal;
    int console;

    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL); /* fails harmlessly where the kernel has done it */
    console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console >= 0)
        dup2(console, STDOUT_FILENO);
    if (tcgetattr(STDOUT_FILENO, &terminal) == 0) {
        cfmakeraw(&terminal);
        tcsetattr(STDOUT_FILENO, TCSANOW, &terminal);
    }
}

static void read_settings(void)
{
    char command_line[COMMAND_LINE_BYTES], reason[256];
    int file = open("/proc/cmdline", O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, command_line, sizeof command_line - 1);

    end_if(length < 0, "/proc/cmdline");
    close(file);
    command_line[length] = '\0';
    if (settings_read(command_line, values, reason, sizeof reason) != 0)
        end(reason);
    if (values[VCPUS] != (uint64_t)get_nprocs()) {
        snprintf(reason, sizeof reason, SETTING_PREFIX "vcpus=%llu: the guest has %d online",
                 (unsigned long long)values[VCPUS], get_nprocs());
        end(reason);
    }
}

static void *allocate(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    end_if(memory == MAP_FAILED, "mmap");
    return memory;
}

/* Asked before it is taken: a guest out of memory would kill its own init. */
static void check_memory(uint64_t wanted_bytes)
{
    struct sysinfo memory;
    char reason[256];

    end_if(sysinfo(&memory) != 0, "sysinfo");
    if ((uint64_t)memory.freeram * memory.mem_unit >= wanted_bytes + RESERVE_BYTES)
        return;
    snprintf(reason, sizeof reason,
             SETTING_PREFIX "working_set_mib=%llu: the guest has %llu MiB free and keeps %u of them",
             (unsigned long long)values[WORKING_SET_MIB], (unsigned long long)memory.freeram * memory.mem_unit / MIB,
             RESERVE_BYTES / MIB);
    end(reason);
}

/* Times the candidates and takes the fastest; writes "NAME NAME=BYTES_PER_SECOND,..." for the ready line. */
static void choose_loop(char *text, size_t text_bytes)
{
    char *scratch = allocate(TRIAL_BYTES);
    struct keystream stream;
    uint64_t least_ns = UINT64_MAX;
    char measured[256];
    int length = 0;

    for (size_t i = 0; i < CANDIDATE_COUNT; i++) {
        uint64_t best_ns = UINT64_MAX;

        keystream_seed(&stream, 0, 0);
        for (int trial = 0; trial <= TRIALS; trial++) {
            uint64_t begin_ns = monotonic_ns(), taken_ns;

            CANDIDATES[i].loop(scratch, TRIAL_BYTES, &stream);
            taken_ns = monotonic_ns() - begin_ns + 1;
            if (trial > 0 && taken_ns < best_ns) /* the first one faults pages in and is translated */
                best_ns = taken_ns;
        }
        if (best_ns < least_ns) {
            least_ns = best_ns;
            chosen = &CANDIDATES[i];
        }
        length += snprintf(measured + length, sizeof measured - (size_t)length, "%s%s=%llu", i ? "," : "",
                           CANDIDATES[i].name, (unsigned long long)(TRIAL_BYTES * 1000000000ull / best_ns));
    }
    munmap(scratch, TRIAL_BYTES);
    snprintf(text, text_bytes, "%s %s", chosen->name, measured);
}

static void print_ready(const char *loop)
{
    char fields[LONGEST_LINE_BYTES / 2];

    snprintf(fields, sizeof fields, "%llu %llu %llu %llu %llu %s", (unsigned long long)values[VCPUS],
             (unsigned long long)values[WORKING_SET_MIB] * MIB, (unsigned long long)values[GRANULARITY_MIB] * MIB,
             (unsigned long long)values[TICK_MS], (unsigned long long)values[RATE_LIMIT_MIB_S] * MIB, loop);
    line_print("ready", fields);
}

static void sleep_until(uint64_t when_ns)
{
    struct timespec when = {.tv_sec = (time_t)(when_ns / 1000000000u), .tv_nsec = (long)(when_ns % 1000000000u)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
}

static void keep_to_rate(struct worker *worker, size_t next_bytes)
{
    uint64_t rate = values[RATE_LIMIT_MIB_S] * MIB, now_ns;

    if (rate == 0)
        return;
    now_ns = monotonic_ns();
    if (worker->due_ns + RATE_DEBT_NS < now_ns)
        worker->due_ns = now_ns - RATE_DEBT_NS;
    if (worker->due_ns > now_ns)
        sleep_until(worker->due_ns);
    worker->due_ns += next_bytes * 1000000000ull / rate;
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

static void xor_pass(struct worker *worker, uint64_t pass)
{
    uint64_t granularity = values[GRANULARITY_MIB] * MIB;
    struct keystream stream;

    keystream_seed(&stream, worker->vcpu, pass);
    for (size_t offset = 0; offset < worker->share_bytes;) {
        size_t bytes = worker->share_bytes - offset;

        if (bytes > CHUNK_BYTES)
            bytes = CHUNK_BYTES;
        if (bytes > granularity - worker->line_bytes)
            bytes = granularity - worker->line_bytes;
        keep_to_rate(worker, bytes);
        chosen->loop(worker->share + offset, bytes, &stream);
        offset += bytes;
        worker->line_bytes += bytes;
        if (worker->line_bytes == granularity)
            print_xor(worker);
    }
}

/* Faults the share in and makes no two of its pages alike. Populated first, by one system call: page faults are dear
 * under TCG, and those of several vCPUs hold each other up (32 MiB on two: 700 ms without, 220 ms with). */
static void fill(struct worker *worker)
{
    struct keystream stream;

    madvise(worker->share, worker->share_bytes, MADV_HUGEPAGE);
    madvise(worker->share, worker->share_bytes, MADV_POPULATE_WRITE); /* refused before Linux 5.14: the loop does it */
    keystream_seed(&stream, worker->vcpu, 0);
    chosen->loop(worker->share, worker->share_bytes, &stream);
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
    for (uint64_t pass = 1;; pass++)
        xor_pass(worker, pass);
    return NULL;
}

static void start_workers(void)
{
    uint64_t pages = values[WORKING_SET_MIB] * MIB / PAGE_BYTES, vcpus = values[VCPUS];
    struct worker *workers = allocate(vcpus * sizeof *workers);
    char *memory;
    pthread_attr_t attributes;

    check_memory(pages * PAGE_BYTES + vcpus * STACK_BYTES);
    memory = allocate(pages * PAGE_BYTES);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_barrier_init(&faulted_in, NULL, (unsigned)vcpus + 1);
    pthread_barrier_init(&released, NULL, (unsigned)vcpus + 1);
    for (uint64_t i = 0; i < vcpus; i++) {
        uint64_t first = pages * i / vcpus, behind = pages * (i + 1) / vcpus;

        workers[i] = (struct worker){
            .vcpu = (unsigned)i, .share = memory + first * PAGE_BYTES, .share_bytes = (behind - first) * PAGE_BYTES};
        errno = pthread_create(&workers[i].thread, &attributes, work, &workers[i]);
        end_if(errno != 0, "pthread_create");
    }
}

/* Runs on the main thread, above the workers, so that a busy vCPU does not hold a tick back. */
static void tick_for_ever(void)
{
    struct sched_param priority = {.sched_priority = TICKER_PRIORITY};
    uint64_t period_ns = values[TICK_MS] * 1000000u, due_ns = monotonic_ns() + period_ns, now_ns;

    end_if(sched_setscheduler(0, SCHED_FIFO, &priority) != 0, "sched_setscheduler");
    for (uint64_t sequence = 0;; sequence++) {
        char before[64];

        sleep_until(due_ns);
        snprintf(before, sizeof before, "tick %llu", (unsigned long long)sequence);
        line_print(before, "");
        now_ns = monotonic_ns();
        due_ns += period_ns;
        if (due_ns < now_ns) /* ticks that were slept through are left out, not made up for in a burst */
            due_ns += (now_ns - due_ns + period_ns - 1) / period_ns * period_ns;
    }
}

int main(void)
{
    char loop[384];

    line_setup();
    open_console();
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    read_settings();
    choose_loop(loop, sizeof loop);
    start_workers();
    pthread_barrier_wait(&faulted_in);
    print_ready(loop);
    pthread_barrier_wait(&released);
    if (values[TICK_MS] > 0)
        tick_for_ever();
    for (;;)
        pause();
}
