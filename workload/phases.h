/* The phases of a run, "5:pattern=hotset,write_percent=50/2:pattern=idle": for so many seconds these settings in place
 * of the workload's own, and behind the last of them the workload's own for ever. Also the whole command line's reading. */
#ifndef PHASES_H
#define PHASES_H

#include "line.h"
#include "settings.h"

#define PHASES_SETTING "phases"
#define NO_PHASES "none"
#define MOST_PHASES 16
#define LONGEST_PHASE_SECONDS 86400u

struct phase {
    uint64_t end_ns; /* since the workers were released */
    uint64_t values[SETTING_COUNT];
};

/* All settings: those that never change are the last phase's. */
struct plan {
    struct phase phases[MOST_PHASES + 1];
    unsigned last;
    uint64_t released_ns;
};

static struct plan plan;

static int phase_read(char *text, struct phase *phase, char *reason, size_t reason_bytes)
{
    char *rest, *colon = strchr(text, ':');
    uint64_t seconds = 0;

    if (colon)
        *colon = '\0';
    if (!colon || number_read(text, &seconds) != 0 || seconds < 1 || seconds > LONGEST_PHASE_SECONDS) {
        snprintf(reason, reason_bytes, SETTING_PREFIX PHASES_SETTING ": %.80s: want SECONDS:NAME=VALUE, 1 to %u s",
                 text, LONGEST_PHASE_SECONDS);
        return -1;
    }
    phase->end_ns += seconds * 1000000000u;
    for (char *word = strtok_r(colon + 1, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        int place = setting_read(word, phase->values, reason, reason_bytes);

        if (place < 0)
            return -1;
        if (!SETTINGS[place].phased) {
            snprintf(reason, reason_bytes, SETTING_PREFIX PHASES_SETTING ": %.80s: holds for the whole run, not a phase",
                     SETTINGS[place].name);
            return -1;
        }
    }
    return 0;
}

/* Reads the phases in front of the last one, which holds the workload's own settings; the text is cut up. */
static int phases_read(char *text, struct plan *plan, char *reason, size_t reason_bytes)
{
    const struct phase own = plan->phases[0];
    uint64_t end_ns = 0;
    char *rest;

    plan->last = 0;
    if (strcmp(text, NO_PHASES) == 0)
        text += strlen(text);
    for (char *word = strtok_r(text, "/", &rest); word; word = strtok_r(NULL, "/", &rest)) {
        if (plan->last == MOST_PHASES) {
            snprintf(reason, reason_bytes, SETTING_PREFIX PHASES_SETTING ": want at most %d of them", MOST_PHASES);
            return -1;
        }
        plan->phases[plan->last] = own;
        plan->phases[plan->last].end_ns = end_ns;
        if (phase_read(word, &plan->phases[plan->last], reason, reason_bytes) != 0)
            return -1;
        end_ns = plan->phases[plan->last++].end_ns;
    }
    plan->phases[plan->last] = own;
    return 0;
}

/* Reads a kernel command line (it is cut into words); returns 0, or -1 with the reason in `reason`. */
static int plan_read(char *command_line, struct plan *plan, char *reason, size_t reason_bytes)
{
    char *rest, *phases = NULL;
    int given[SETTING_COUNT] = {0};

    for (char *word = strtok_r(command_line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        char *setting = word + strlen(SETTING_PREFIX);
        int place;

        if (strncmp(word, SETTING_PREFIX, strlen(SETTING_PREFIX)) != 0)
            continue;
        if (strncmp(setting, PHASES_SETTING "=", strlen(PHASES_SETTING "=")) == 0) {
            phases = setting + strlen(PHASES_SETTING "=");
            continue;
        }
        place = setting_read(setting, plan->phases[0].values, reason, reason_bytes);
        if (place < 0)
            return -1;
        given[place] = 1;
    }
    for (int i = 0; i <= SETTING_COUNT; i++)
        if (i < SETTING_COUNT ? !given[i] : !phases) {
            snprintf(reason, reason_bytes, SETTING_PREFIX "%s is missing on the kernel command line",
                     i < SETTING_COUNT ? SETTINGS[i].name : PHASES_SETTING);
            return -1;
        }
    return phases_read(phases, plan, reason, reason_bytes);
}

/* The settings that hold for the whole run. */
static uint64_t setting_of(const struct plan *plan, int setting)
{
    return plan->phases[plan->last].values[setting];
}

/* The phase after `phase` where it has ended by now, else itself. The last one never asks the clock. */
static unsigned phase_now(const struct plan *plan, unsigned phase)
{
    while (phase < plan->last && coarse_ns() >= plan->released_ns + plan->phases[phase].end_ns)
        phase++;
    return phase;
}

#endif
