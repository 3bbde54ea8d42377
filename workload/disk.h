/* The disk's writer: writes the virtio disk from its start to its end, again and again, at a set rate. */
#ifndef DISK_H
#define DISK_H

#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "worker.h"

#define MODULES_FOLDER "/modules"
#define DISK_PATH "/dev/vda"
#define DISK_WAIT_NS 5000000000u
#define DISK_LOOK_NS 10000000u
#define DISK_CHUNK_BYTES (64u << 10)

struct disk {
    pthread_t thread;
    int file;
    uint64_t chunks, next; /* of the disk; the one that is written next */
    char *chunk;
    uint64_t line_ns; /* when the last line was */
    uint64_t line_chunks, sum_ns, most_ns;
    uint64_t sequence;
};

static void load_module(const char *name)
{
    char path[192];
    int file;

    snprintf(path, sizeof path, MODULES_FOLDER "/%.128s", name);
    file = open(path, O_RDONLY | O_CLOEXEC);
    end_if(file < 0 || syscall(SYS_finit_module, file, "", 0) != 0, path);
    close(file);
}

/* The initrd's modules, whose names begin with their place in the order of loading. It has none where no disk is. */
static void load_modules(void)
{
    struct dirent **entries;
    int count = scandir(MODULES_FOLDER, &entries, NULL, alphasort);

    for (int i = 0; i < count; i++)
        if (entries[i]->d_name[0] != '.')
            load_module(entries[i]->d_name);
}

static int writes_disk(void)
{
    for (unsigned i = 0; i <= plan.last; i++)
        if (plan.phases[i].values[DISK_WRITE_MIB_S] > 0)
            return 1;
    return 0;
}

/* O_DIRECT: what counts is what reaches the disk, and when, not what the guest's page cache holds. */
static int open_disk(void)
{
    uint64_t until_ns = monotonic_ns() + DISK_WAIT_NS;
    int file;

    while ((file = open(DISK_PATH, O_WRONLY | O_DIRECT | O_CLOEXEC)) < 0 && monotonic_ns() < until_ns)
        sleep_until(monotonic_ns() + DISK_LOOK_NS);
    end_if(file < 0, DISK_PATH);
    return file;
}

static void print_disk(struct disk *disk)
{
    char before[64], after[128];
    uint64_t now_ns = monotonic_ns();

    snprintf(before, sizeof before, "disk %llu", (unsigned long long)disk->sequence++);
    snprintf(after, sizeof after, "%llu %llu %llu %llu %llu", (unsigned long long)disk->line_chunks * DISK_CHUNK_BYTES,
             (unsigned long long)(now_ns - disk->line_ns), (unsigned long long)disk->line_chunks,
             (unsigned long long)disk->sum_ns, (unsigned long long)disk->most_ns);
    line_print(before, after);
    disk->line_ns = now_ns;
    disk->line_chunks = disk->sum_ns = disk->most_ns = 0;
}

/* Writes the next chunk, with content that the disk never held. */
static void write_chunk(struct disk *disk)
{
    struct keystream stream;
    uint64_t taken_ns;

    keystream_seed(&stream, UINT64_MAX - 1, disk->next);
    chosen->loop(disk->chunk, DISK_CHUNK_BYTES, &stream);
    taken_ns = monotonic_ns();
    errno = EIO; /* of a short write */
    end_if(pwrite(disk->file, disk->chunk, DISK_CHUNK_BYTES, (off_t)(disk->next % disk->chunks * DISK_CHUNK_BYTES)) !=
               DISK_CHUNK_BYTES,
           "write to " DISK_PATH);
    taken_ns = monotonic_ns() - taken_ns;
    disk->next++;
    disk->line_chunks++;
    disk->sum_ns += taken_ns;
    if (taken_ns > disk->most_ns)
        disk->most_ns = taken_ns;
}

static void *write_for_ever(void *argument)
{
    struct disk *disk = argument;
    uint64_t due_ns = disk->line_ns = monotonic_ns(), now_ns, rate;
    unsigned phase = 0;

    for (;;) {
        phase = phase_now(&plan, phase);
        rate = plan.phases[phase].values[DISK_WRITE_MIB_S] * MIB;
        if (rate > 0) {
            write_chunk(disk);
            due_ns += DISK_CHUNK_BYTES * 1000000000ull / rate;
        } else {
            due_ns = monotonic_ns() + LINE_NS;
        }
        now_ns = monotonic_ns();
        if (due_ns + RATE_DEBT_NS < now_ns)
            due_ns = now_ns - RATE_DEBT_NS;
        if (due_ns > now_ns)
            sleep_until(due_ns);
        if (monotonic_ns() - disk->line_ns >= LINE_NS)
            print_disk(disk);
    }
    return NULL;
}

/* Opens the disk where the workload writes one; what is wrong with it is told before the guest is ready. */
static void open_writer(struct disk *disk)
{
    uint64_t bytes = 0;

    if (!writes_disk())
        return;
    disk->file = open_disk();
    end_if(ioctl(disk->file, BLKGETSIZE64, &bytes) != 0, DISK_PATH);
    disk->chunks = bytes / DISK_CHUNK_BYTES;
    disk->chunk = allocate(DISK_CHUNK_BYTES);
}

static void start_writer(struct disk *disk, const pthread_attr_t *attributes)
{
    if (!disk->chunk)
        return;
    errno = pthread_create(&disk->thread, attributes, write_for_ever, disk);
    end_if(errno != 0, "pthread_create");
}

#endif
