/* What one access does to a page: which part of it is rewritten, and what it holds afterwards.
 *
 * A page is a random part followed by zeros; the zeros are what compresses. An access rewrites a window of the random
 * part with a keystream seeded for this one visit (one that ran on would meet the page again at a multiple of its low
 * bits' period), or makes the whole page zero, or only reads it. */
#ifndef CONTENT_H
#define CONTENT_H

#include <string.h>

#include "keystream.h"
#include "settings.h"

#define PAGE_WORDS (PAGE_BYTES / 8u)
/* A window begins at a cache line, where every candidate's loop may begin. */
#define WINDOW_STEP_WORDS 8u

struct content {
    unsigned random_words, window_words;
    uint64_t write_percent, zero_percent;
};

static struct content content_of(const uint64_t *values)
{
    unsigned random_words = PAGE_WORDS * (100u - (unsigned)values[COMPRESSIBLE_PERCENT]) / 100u;
    unsigned window_words = random_words * (unsigned)values[CHANGE_PERCENT] / 100u;

    return (struct content){.random_words = random_words,
                            .window_words = window_words ? window_words : 1u,
                            .write_percent = values[WRITE_PERCENT],
                            .zero_percent = values[ZERO_PERCENT]};
}

/* Whether every access rewrites every byte. */
static int rewrites_all(const struct content *content)
{
    return content->window_words == PAGE_WORDS && content->write_percent == 100 && content->zero_percent == 0;
}

/* A number below `bound`, which is below 2^32. */
static uint64_t drawn_below(uint64_t *state, uint64_t bound)
{
    return (splitmix64(state) >> 32) * bound >> 32;
}

static int drawn(uint64_t *state, uint64_t percent)
{
    return percent >= 100 || (percent > 0 && drawn_below(state, 100) < percent);
}

static void xor_words(uint64_t *word, unsigned count, uint64_t *state)
{
    unsigned whole = count / (TURN_BYTES / 8u) * (TURN_BYTES / 8u);
    struct keystream stream;

    for (int i = 0; i < chosen->lanes; i++)
        stream.lane[i] = splitmix64(state);
    if (whole)
        chosen->loop(word, whole * 8u, &stream);
    for (unsigned i = whole; i < count; i++)
        word[i] ^= LCG_STEP(stream.lane[i % 4]);
}

static void page_write(void *page, const struct content *content, uint64_t *state)
{
    unsigned random_words = content->random_words, room = random_words - content->window_words;
    uint64_t *word = page;

    if (drawn(state, content->zero_percent)) {
        memset(page, 0, PAGE_BYTES);
        return;
    }
    /* A random word is as good as never 0: a page that was zero, or had another share of zeros, is made anew. */
    if (word[0] && word[random_words - 1] && (random_words == PAGE_WORDS || !word[random_words])) {
        xor_words(word + (room ? drawn_below(state, room + 1) / WINDOW_STEP_WORDS * WINDOW_STEP_WORDS : 0),
                  content->window_words, state);
        return;
    }
    memset(word + random_words, 0, PAGE_BYTES - random_words * 8u);
    xor_words(word, random_words, state);
}

static void page_read(const void *page)
{
    const uint64_t *word = page;
    uint64_t sum = 0;

    for (unsigned i = 0; i < PAGE_WORDS; i++)
        sum += word[i];
    __asm__ volatile("" : : "r"(sum)); /* used, as far as the compiler knows */
}

static void page_visit(void *page, const struct content *content, uint64_t *state)
{
    if (drawn(state, content->write_percent))
        page_write(page, content, state);
    else
        page_read(page);
}

#endif
