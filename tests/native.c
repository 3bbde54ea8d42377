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

/* memory LOOP VCPUS SHARE_BYTES PASSES: writes all shares as they are after each of PASSES + 1 passes (0: the fill) */
static void memory(const char *loop, unsigned vcpus, size_t share_bytes, uint64_t passes)
{
    char *working_set = allocate(vcpus * share_bytes);
    struct worker *workers = allocate(vcpus * sizeof *workers);

    values[GRANULARITY_MIB] = SETTINGS[GRANULARITY_MIB].high; /* no line in between */
    for (size_t i = 0; i < CANDIDATE_COUNT; i++)
        if (strcmp(CANDIDATES[i].name, loop) == 0)
            chosen = &CANDIDATES[i];
    for (uint64_t pass = 0; pass <= passes; pass++) {
        for (unsigned i = 0; i < vcpus; i++) {
            if (pass == 0)
                workers[i] = (struct worker){
                    .vcpu = i, .share = working_set + i * share_bytes, .share_bytes = share_bytes};
            if (pass == 0)
                fill(&workers[i]);
            else
                xor_pass(&workers[i], pass);
        }
        write_all(working_set, vcpus * share_bytes);
    }
}

int main(int count, char **argument)
{
    char reason[256];

    line_setup();
    if (count == 6 && strcmp(argument[1], "memory") == 0) {
        memory(argument[2], (unsigned)atoi(argument[3]), strtoul(argument[4], NULL, 10), strtoul(argument[5], NULL, 10));
    } else if (count == 2 && strcmp(argument[1], "loops") == 0) {
        for (size_t i = 0; i < CANDIDATE_COUNT; i++)
            puts(CANDIDATES[i].name);
    } else if (count == 2 && strcmp(argument[1], "bounds") == 0) {
        for (int i = 0; i < SETTING_COUNT; i++)
            printf("%s %llu %llu %d\n", SETTINGS[i].name, (unsigned long long)SETTINGS[i].low,
                   (unsigned long long)SETTINGS[i].high, SETTINGS[i].zero);
    } else if (count == 3 && strcmp(argument[1], "settings") == 0) {
        if (settings_read(argument[2], values, reason, sizeof reason) != 0) {
            line_clean(reason);
            line_print("error", reason);
            return 0;
        }
        for (int i = 0; i < SETTING_COUNT; i++)
            printf("%s=%llu\n", SETTINGS[i].name, (unsigned long long)values[i]);
    } else {
        return 2;
    }
    return 0;
}
