/* The working set's memory, in pages of the size that was asked for; refused where the guest has none of them. */
#ifndef PAGES_H
#define PAGES_H

#include <fcntl.h>
#include <sys/sysinfo.h>

#include "ending.h"
#include "phases.h"

#define MIB (1u << 20)
/* Left to the kernel beside the working set. */
#define RESERVE_BYTES (4u * MIB)
#define TRANSPARENT_FOLDER "/sys/kernel/mm/transparent_hugepage/"
#define HUGETLB_FOLDER "/sys/kernel/mm/hugepages/hugepages-"

static void end_for_pages(const char *why)
{
    char reason[256];

    snprintf(reason, sizeof reason, SETTING_PREFIX "guest_page_size=%s: %s",
             PAGE_SIZE_WORDS[setting_of(&plan, GUEST_PAGE_SIZE)], why);
    end(reason);
}

/* Reads a small file; an empty text where it is not there. */
static void read_text(const char *path, char *text, size_t text_bytes)
{
    int file = open(path, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, text_bytes - 1);

    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = '\0';
}

static void write_text(const char *path, const char *text)
{
    int file = open(path, O_WRONLY);

    if (file < 0)
        return;
    if (write(file, text, strlen(text)) < 0)
        errno = 0; /* what came of it is read back */
    close(file);
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
             (unsigned long long)setting_of(&plan, WORKING_SET_MIB),
             (unsigned long long)memory.freeram * memory.mem_unit / MIB, RESERVE_BYTES / MIB);
    end(reason);
}

/* Has the kernel set so many pages of its own aside, and maps them. */
static void *map_hugetlb(size_t bytes, unsigned page_shift)
{
    uint64_t wanted = bytes >> page_shift;
    unsigned long long page_kib = 1ull << (page_shift - 10);
    char path[128], text[32], why[160];
    void *memory;

    snprintf(path, sizeof path, HUGETLB_FOLDER "%llukB/nr_hugepages", page_kib);
    read_text(path, text, sizeof text);
    if (!*text)
        end_for_pages("the guest's kernel or CPU has no such pages");
    snprintf(text, sizeof text, "%llu", (unsigned long long)wanted);
    write_text(path, text);
    read_text(path, text, sizeof text);
    if (strtoull(text, NULL, 10) < wanted) {
        snprintf(why, sizeof why, "the guest's memory has room for %llu of %llu such pages", strtoull(text, NULL, 10),
                 (unsigned long long)wanted);
        end_for_pages(why);
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (int)(page_shift << MAP_HUGE_SHIFT), -1, 0);
    end_if(memory == MAP_FAILED, "mmap of huge pages");
    return memory;
}

/* Aligned to 2 MiB, so that each of its huge pages can be one. */
static char *map_aligned(size_t bytes)
{
    char *memory = allocate(bytes + 2 * MIB);

    return memory + (-(uintptr_t)memory & (2 * MIB - 1));
}

/* Maps the working set; `other_bytes` are wanted beside it. */
static char *map_working_set(size_t bytes, size_t other_bytes)
{
    uint64_t pages = setting_of(&plan, GUEST_PAGE_SIZE);
    char enabled[64], *memory;

    if (pages == HUGETLB_1G || pages == HUGETLB_2M) {
        unsigned shift = pages == HUGETLB_1G ? 30 : 21;
        size_t whole = (bytes + (1ull << shift) - 1) >> shift << shift;

        if (pages == HUGETLB_2M) /* of 1 GiB each the pool itself knows best */
            check_memory(whole + other_bytes);
        return map_hugetlb(whole, shift);
    }
    check_memory(bytes + other_bytes);
    if (pages == TRANSPARENT_2M)
        write_text(TRANSPARENT_FOLDER "enabled", "madvise"); /* Linux turns them off below 512 MiB of RAM */
    read_text(TRANSPARENT_FOLDER "enabled", enabled, sizeof enabled);
    if (pages == TRANSPARENT_2M && (!*enabled || strstr(enabled, "[never]")))
        end_for_pages("the guest's kernel gives no transparent huge pages");
    memory = map_aligned(bytes);
    madvise(memory, bytes, pages == SMALL_PAGES ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    return memory;
}

/* Looks whether the kernel gave the transparent huge pages that were asked for, once all is faulted in. */
static void check_transparent(size_t bytes)
{
    char text[2048], why[160], *found;
    unsigned long long whole_mib = bytes / MIB & ~1ull, huge_mib;

    if (setting_of(&plan, GUEST_PAGE_SIZE) != TRANSPARENT_2M)
        return;
    read_text("/proc/self/smaps_rollup", text, sizeof text);
    found = strstr(text, "AnonHugePages:");
    huge_mib = found ? strtoull(found + strlen("AnonHugePages:"), NULL, 10) / 1024 : 0;
    if (huge_mib >= whole_mib)
        return;
    snprintf(why, sizeof why, "the guest's kernel gave them for %llu of %llu MiB", huge_mib, whole_mib);
    end_for_pages(why);
}

#endif
