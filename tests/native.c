/* Runs parts of the guest's init on the host: its functions are the very ones, only main is another. */
#define main guest_main
#include "init.c"
#undef main

static void write_all(const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t done = write(STDOUT_FILENO, bytes, count);

        if (done <= 0)
            exit(1);
        bytes += done;
        count -= (size_t)done;
    }
}

static void choose(const char *loop)
{
    for (size_t i = 0; i < CANDIDATE_COUNT; i++)
        if (strcmp(CANDIDATES[i].name, loop) == 0)
            chosen = &CANDIDATES[i];
}

/* memory LOOP SHARE_BYTES PASSES COMMAND_LINE: writes all shares as they are after the fill and after each of PASSES
 * times as many visits as a share has pages; `phase_passes` of them to each phase */
static void memory(const char *loop, size_t share_bytes, uint64_t passes, uint64_t phase_passes)
{
    uint64_t vcpus = setting_of(&plan, VCPUS);
    char *working_set = allocate(vcpus * share_bytes);
    struct worker *workers = allocate(vcpus * sizeof *workers);

    choose(loop);
    for (uint64_t pass = 0; pass <= passes; pass++) {
        for (unsigned i = 0; i < vcpus; i++) {
            uint64_t phase = phase_passes && pass ? (pass - 1) / phase_passes : 0;

            if (pass == 0) {
                workers[i] = (struct worker){ /* vCPU 0 would print the phases in between */
                    .vcpu = i + 1, .share = working_set + i * share_bytes, .share_bytes = share_bytes};
                fill(&workers[i]);
                continue;
            }
            if (phase <= plan.last && phase != workers[i].phase)
                enter_phase(&workers[i], (unsigned)phase);
            for (size_t done = 0; done < share_bytes && !at_rest(&workers[i]);) {
                uint64_t before = workers[i].line_bytes;

                step(&workers[i]);
                done += workers[i].line_bytes - before;
            }
        }
        write_all(working_set, vcpus * share_bytes);
    }
}

/* order PAGES VISITS COMMAND_LINE: prints which pages are visited */
static void visits(uint64_t pages, uint64_t count)
{
    struct order order = order_of(plan.phases[0].values, pages);
    uint64_t state = seed_of(0, UINT64_MAX);

    for (uint64_t i = 0; i < count; i++)
        printf("%llu\n", (unsigned long long)next_page(&order, plan.phases[0].values, &state));
}

static void print_bounds(void)
{
    char words[128];

    for (int i = 0; i < SETTING_COUNT; i++) {
        setting_bounds(&SETTINGS[i], words, sizeof words);
        printf("%s|%d|%s\n", SETTINGS[i].name, SETTINGS[i].phased, words);
    }
}

static void print_settings(void)
{
    for (unsigned phase = 0; phase <= plan.last; phase++)
        for (int i = 0; i < SETTING_COUNT; i++) {
            uint64_t value = plan.phases[phase].values[i];

            printf("%llu %s=", phase < plan.last ? (unsigned long long)plan.phases[phase].end_ns / 1000000000u : 0ull,
                   SETTINGS[i].name);
            if (SETTINGS[i].words)
                puts(SETTINGS[i].words[value]);
            else
                printf("%llu\n", (unsigned long long)value);
        }
}

/* buckets NS...: prints the latency record of these accesses */
static void buckets(int count, char **argument)
{
    struct latencies latencies = {0};

    for (int i = 0; i < count; i++)
        latency_count(&latencies, strtoull(argument[i], NULL, 10));
    print_latency(&latencies, 7, 8);
}

/* Reads the settings, which stand in the last argument; what is wrong with them is an error record. */
static void read_plan(char *command_line)
{
    char reason[256];

    if (plan_read(command_line, &plan, reason, sizeof reason) == 0)
        return;
    line_clean(reason);
    line_print("error", reason);
    exit(0);
}

int main(int count, char **argument)
{
    const char *what = count > 1 ? argument[1] : "";

    line_setup();
    if (strcmp(what, "loops") == 0) {
        for (size_t i = 0; i < CANDIDATE_COUNT; i++)
            puts(CANDIDATES[i].name);
        return 0;
    }
    if (strcmp(what, "bounds") == 0) {
        print_bounds();
        return 0;
    }
    if (strcmp(what, "buckets") == 0) {
        buckets(count - 2, argument + 2);
        return 0;
    }
    if (count < 3)
        return 2;
    read_plan(argument[count - 1]);
    if (strcmp(what, "settings") == 0)
        print_settings();
    else if (strcmp(what, "memory") == 0 && count == 7)
        memory(argument[2], strtoul(argument[3], NULL, 10), strtoul(argument[4], NULL, 10),
               strtoul(argument[5], NULL, 10));
    else if (strcmp(what, "order") == 0 && count == 5)
        visits(strtoul(argument[2], NULL, 10), strtoul(argument[3], NULL, 10));
    else
        return 2;
    return 0;
}
