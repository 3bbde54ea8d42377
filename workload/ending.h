/* The end of the guest: an error line and a power-off, for whatever cannot go on. */
#ifndef ENDING_H
#define ENDING_H

#include <sys/mman.h>
#include <sys/reboot.h>
#include <termios.h>

#include "line.h"
#include "settings.h"

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

static void *allocate(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    end_if(memory == MAP_FAILED, "mmap");
    return memory;
}

#endif
