/* The guest's settings, as migrascope.NAME=VALUE on the kernel command line: all of them, each within its bounds. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTING_PREFIX "migrascope."

enum {
    WORKING_SET_MIB,
    GRANULARITY_MIB,
    TICK_MS,
    RATE_LIMIT_MIB_S,
    PATTERN,
    HOT_MEMORY_PERCENT,
    HOT_ACCESS_PERCENT,
    ZIPF_EXPONENT_PERCENT,
    WRITE_PERCENT,
    CHANGE_PERCENT,
    ZERO_PERCENT,
    COMPRESSIBLE_PERCENT,
    DISK_WRITE_MIB_S,
    GUEST_PAGE_SIZE,
    PROBE_HZ,
    VCPUS,
    SETTING_COUNT
};

/* The words of PATTERN and GUEST_PAGE_SIZE; a value is the place of its word. */
enum { SEQUENTIAL, RANDOM, ONCE, HOTSET, ZIPF, IDLE };
enum { ANY_PAGES, SMALL_PAGES, TRANSPARENT_2M, HUGETLB_2M, HUGETLB_1G };
static const char *const PATTERN_WORDS[] = {"sequential", "random", "once", "hotset", "zipf", "idle", NULL};
static const char *const PAGE_SIZE_WORDS[] = {"any", "4k", "2m", "2m-hugetlb", "1g-hugetlb", NULL};

struct setting {
    const char *name;
    uint64_t low, high;
    int zero;                 /* 0 is allowed too, and means off */
    int phased;               /* a phase may have a value of its own */
    const char *const *words; /* the words that it may be; NULL where it is a number */
};

/* The bounds of settings.py; a test compares them. */
static const struct setting SETTINGS[SETTING_COUNT] = {
    [WORKING_SET_MIB] = {"working_set_mib", 1, 1 << 20, 0, 0, NULL},
    [GRANULARITY_MIB] = {"granularity_mib", 1, 1 << 16, 0, 0, NULL},
    [TICK_MS] = {"tick_ms", 1, 10000, 1, 0, NULL},
    [RATE_LIMIT_MIB_S] = {"rate_limit_mib_s", 1, 1 << 20, 1, 1, NULL},
    [PATTERN] = {"pattern", 0, 0, 0, 1, PATTERN_WORDS},
    [HOT_MEMORY_PERCENT] = {"hot_memory_percent", 1, 99, 0, 1, NULL},
    [HOT_ACCESS_PERCENT] = {"hot_access_percent", 1, 99, 0, 1, NULL},
    [ZIPF_EXPONENT_PERCENT] = {"zipf_exponent_percent", 1, 500, 0, 1, NULL},
    [WRITE_PERCENT] = {"write_percent", 0, 100, 0, 1, NULL},
    [CHANGE_PERCENT] = {"change_percent", 1, 100, 0, 1, NULL},
    [ZERO_PERCENT] = {"zero_percent", 0, 100, 0, 1, NULL},
    [COMPRESSIBLE_PERCENT] = {"compressible_percent", 0, 99, 0, 1, NULL},
    [DISK_WRITE_MIB_S] = {"disk_write_mib_s", 1, 1 << 20, 1, 1, NULL},
    [GUEST_PAGE_SIZE] = {"guest_page_size", 0, 0, 0, 0, PAGE_SIZE_WORDS},
    [PROBE_HZ] = {"probe_hz", 1, 10000, 1, 0, NULL},
    [VCPUS] = {"vcpus", 1, 1024, 0, 0, NULL},
};

/* A whole number and nothing else; returns 0, or -1. */
static int number_read(const char *text, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 ? 0 : -1;
}

static int value_read(const struct setting *setting, const char *text, uint64_t *value)
{
    if (!setting->words)
        return number_read(text, value) == 0 && ((*value >= setting->low && *value <= setting->high) ||
                                                 (setting->zero && *value == 0))
                   ? 0
                   : -1;
    for (*value = 0; setting->words[*value]; (*value)++)
        if (strcmp(setting->words[*value], text) == 0)
            return 0;
    return -1;
}

/* Says in words which values a setting takes: "0 (off) or 1 to 10000", "sequential, random". */
static void setting_bounds(const struct setting *setting, char *text, size_t text_bytes)
{
    size_t length = 0;

    if (!setting->words) {
        snprintf(text, text_bytes, "%s%llu to %llu", setting->zero ? "0 (off) or " : "",
                 (unsigned long long)setting->low, (unsigned long long)setting->high);
        return;
    }
    for (size_t i = 0; setting->words[i] && length < text_bytes; i++)
        length += (size_t)snprintf(text + length, text_bytes - length, "%s%s", i ? ", " : "", setting->words[i]);
}

/* Reads one "NAME=VALUE" into its place in `values`; returns the place, or -1 with the reason in `reason`. */
static int setting_read(const char *word, uint64_t *values, char *reason, size_t reason_bytes)
{
    const char *equals = strchr(word, '=');
    size_t name_length = equals ? (size_t)(equals - word) : strlen(word);
    char wanted[128];

    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &SETTINGS[i];

        if (strlen(setting->name) != name_length || strncmp(setting->name, word, name_length) != 0)
            continue;
        if (value_read(setting, equals ? equals + 1 : "", &values[i]) == 0)
            return i;
        setting_bounds(setting, wanted, sizeof wanted);
        snprintf(reason, reason_bytes, SETTING_PREFIX "%.80s: want %s", word, wanted);
        return -1;
    }
    snprintf(reason, reason_bytes, SETTING_PREFIX "%.80s: no such setting", word);
    return -1;
}

#endif
