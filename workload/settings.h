/* The guest's settings, as migrascope.NAME=VALUE on the kernel command line: all of them, each within its bounds. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTING_PREFIX "migrascope."

enum { WORKING_SET_MIB, GRANULARITY_MIB, TICK_MS, RATE_LIMIT_MIB_S, VCPUS, SETTING_COUNT };

struct setting {
    const char *name;
    uint64_t low, high;
    int zero; /* 0 is allowed too, and means off */
};

/* The bounds of settings.py; a test compares them. */
static const struct setting SETTINGS[SETTING_COUNT] = {
    [WORKING_SET_MIB] = {"working_set_mib", 1, 1 << 20, 0}, [GRANULARITY_MIB] = {"granularity_mib", 1, 1 << 16, 0},
    [TICK_MS] = {"tick_ms", 1, 10000, 1},                   [RATE_LIMIT_MIB_S] = {"rate_limit_mib_s", 1, 1 << 20, 1},
    [VCPUS] = {"vcpus", 1, 1024, 0},
};

/* Reads one "NAME=VALUE"; returns 0, or -1 with the reason in `reason`. */
static int setting_read(const char *word, uint64_t *values, int *given, char *reason, size_t reason_bytes)
{
    const char *equals = strchr(word, '=');
    size_t name_length = equals ? (size_t)(equals - word) : strlen(word);

    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &SETTINGS[i];
        const char *digits = equals ? equals + 1 : "";
        char *end;

        if (strlen(setting->name) != name_length || strncmp(setting->name, word, name_length) != 0)
            continue;
        errno = 0;
        values[i] = strtoull(digits, &end, 10);
        given[i] = 1;
        if (*digits >= '0' && *digits <= '9' && *end == '\0' && errno == 0 &&
            ((values[i] >= setting->low && values[i] <= setting->high) || (setting->zero && values[i] == 0)))
            return 0;
        snprintf(reason, reason_bytes, SETTING_PREFIX "%.80s: want %s%llu to %llu", word,
                 setting->zero ? "0 (off) or " : "", (unsigned long long)setting->low,
                 (unsigned long long)setting->high);
        return -1;
    }
    snprintf(reason, reason_bytes, SETTING_PREFIX "%.80s: no such setting", word);
    return -1;
}

/* Reads a kernel command line (it is cut into words); returns 0, or -1 with the reason in `reason`. */
static int settings_read(char *command_line, uint64_t *values, char *reason, size_t reason_bytes)
{
    int given[SETTING_COUNT] = {0};
    char *rest;

    for (char *word = strtok_r(command_line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest))
        if (strncmp(word, SETTING_PREFIX, strlen(SETTING_PREFIX)) == 0 &&
            setting_read(word + strlen(SETTING_PREFIX), values, given, reason, reason_bytes) != 0)
            return -1;
    for (int i = 0; i < SETTING_COUNT; i++)
        if (!given[i]) {
            snprintf(reason, reason_bytes, SETTING_PREFIX "%s is missing on the kernel command line", SETTINGS[i].name);
            return -1;
        }
    return 0;
}

#endif
