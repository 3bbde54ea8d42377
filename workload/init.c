/* The guest's only program, PID 1: one worker a vCPU works its share of the working set for ever, a ticker says that
 * the guest is alive, a probe times accesses to memory, a writer writes the disk, and all tell of it on the console (console.py).
 * Whatever is wrong ends in an error line and a power-off, never in a hang. */
#define _GNU_SOURCE

#include <sys/mount.h>

#include "disk.h"
#include "probe.h"

#define COMMAND_LINE_BYTES 4096
#define TRIAL_BYTES MIB
#define TRIALS 4
#define STACK_BYTES (256u << 10)
#define TICKER_PRIORITY 50

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
    if (plan_read(command_line, &plan, reason, sizeof reason) != 0)
        end(reason);
    if (setting_of(&plan, VCPUS) != (uint64_t)get_nprocs()) {
        snprintf(reason, sizeof reason, SETTING_PREFIX "vcpus=%llu: the guest has %d online",
                 (unsigned long long)setting_of(&plan, VCPUS), get_nprocs());
        end(reason);
    }
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

    snprintf(fields, sizeof fields, "%llu %llu %llu %llu %llu %s", (unsigned long long)setting_of(&plan, VCPUS),
             (unsigned long long)setting_of(&plan, WORKING_SET_MIB) * MIB,
             (unsigned long long)setting_of(&plan, GRANULARITY_MIB) * MIB,
             (unsigned long long)setting_of(&plan, TICK_MS),
             (unsigned long long)setting_of(&plan, RATE_LIMIT_MIB_S) * MIB, loop);
    line_print("ready", fields);
}

/* What is wanted beside the working set: stacks, and Zipf's tables, in whose making each page has 20 bytes. */
static uint64_t beside_bytes(uint64_t pages)
{
    uint64_t bytes = (setting_of(&plan, VCPUS) + 1) * STACK_BYTES;

    for (unsigned i = 0; i <= plan.last; i++)
        if (plan.phases[i].values[PATTERN] == ZIPF)
            bytes += pages * 20;
    return bytes;
}

static struct probe start_workers(const pthread_attr_t *attributes)
{
    uint64_t pages = setting_of(&plan, WORKING_SET_MIB) * MIB / PAGE_BYTES, vcpus = setting_of(&plan, VCPUS);
    struct worker *workers = allocate(vcpus * sizeof *workers);
    char *memory = map_working_set(pages * PAGE_BYTES, beside_bytes(pages));

    pthread_barrier_init(&faulted_in, NULL, (unsigned)vcpus + 1);
    pthread_barrier_init(&released, NULL, (unsigned)vcpus + 1);
    for (uint64_t i = 0; i < vcpus; i++) {
        uint64_t first = pages * i / vcpus, behind = pages * (i + 1) / vcpus;

        workers[i] = (struct worker){
            .vcpu = (unsigned)i, .share = memory + first * PAGE_BYTES, .share_bytes = (behind - first) * PAGE_BYTES};
        errno = pthread_create(&workers[i].thread, attributes, work, &workers[i]);
        end_if(errno != 0, "pthread_create");
    }
    pthread_barrier_wait(&faulted_in);
    check_transparent(pages * PAGE_BYTES);
    return (struct probe){.memory = memory, .pages = pages};
}

/* Runs on the main thread, above the workers, so that a busy vCPU does not hold a tick back. */
static void tick_for_ever(void)
{
    struct sched_param priority = {.sched_priority = TICKER_PRIORITY};
    uint64_t period_ns = setting_of(&plan, TICK_MS) * 1000000u, due_ns = monotonic_ns() + period_ns, now_ns;

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
    pthread_attr_t attributes;
    struct probe probe;
    struct disk disk = {0};

    line_setup();
    open_console();
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    read_settings();
    load_modules();
    open_writer(&disk);
    choose_loop(loop, sizeof loop);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    probe = start_workers(&attributes);
    print_ready(loop);
    plan.released_ns = monotonic_ns();
    pthread_barrier_wait(&released);
    start_probe(&probe, &attributes);
    start_writer(&disk, &attributes);
    if (setting_of(&plan, TICK_MS) > 0)
        tick_for_ever();
    for (;;)
        pause();
}
