/* Writing the console protocol; its grammar stands in console.py. One record is one write() of one line. */
#ifndef LINE_H
#define LINE_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_LINE_BYTES 1024

static uint32_t crc_table[256];
static uint64_t next_line;
/* The ticker outranks the workers; without inheritance, one preempted in the middle of a line would keep it waiting. */
static pthread_mutex_t line_lock;

static void line_setup(void)
{
    pthread_mutexattr_t attributes;

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
        crc_table[byte] = crc;
    }
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&line_lock, &attributes);
}

static uint32_t crc32_of(const char *bytes, size_t count)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < count; i++)
        crc = crc >> 8 ^ crc_table[(crc ^ (uint8_t)bytes[i]) & 0xFF];
    return ~crc;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The same clock as of the last timer interrupt: costs no access to the clock's hardware. */
static uint64_t coarse_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t when_ns)
{
    struct timespec when = {.tv_sec = (time_t)(when_ns / 1000000000u), .tv_nsec = (long)(when_ns % 1000000000u)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
}

/* A text may hold printable ASCII but for the two signs that mark a record's start and end. */
static void line_clean(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~' || *text == '@' || *text == '*')
            *text = '?';
}

/* Prints one record: `before` are the fields in front of its guest_ns, `after` those behind it. The time is read under
 * the lock, so that the lines' numbers and times rise together. */
static void line_print(const char *before, const char *after)
{
    char line[LONGEST_LINE_BYTES];
    uint64_t guest_ns;
    int length;

    pthread_mutex_lock(&line_lock);
    guest_ns = monotonic_ns();
    length = snprintf(line, sizeof line - 16, "@m1 %llu %s %llu%s%s ", (unsigned long long)next_line++, before,
                      (unsigned long long)guest_ns, *after ? " " : "", after);
    if (length > (int)sizeof line - 17)
        length = (int)sizeof line - 17;
    length += snprintf(line + length, 16, "*%08x\n", crc32_of(line, (size_t)length));
    for (int done = 0; done < length;) {
        ssize_t count = write(STDOUT_FILENO, line + done, (size_t)(length - done));

        if (count <= 0)
            break;
        done += (int)count;
    }
    pthread_mutex_unlock(&line_lock);
}

#endif
