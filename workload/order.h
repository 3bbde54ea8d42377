/* Which page of a share is next: in turn, at random, mostly of a hot part, or by Zipf's law. */
#ifndef ORDER_H
#define ORDER_H

#include <math.h>

#include "content.h"
#include "ending.h"

/* A place of an alias table (Walker 1977, in Vose's form of 1991): a page's rank is drawn with two numbers, whatever
 * the exponent. `keep` is the chance, in 2^32ths, that a draw of this rank stays, else it goes to `other`. */
struct alias {
    uint32_t keep, other;
};

struct order {
    uint64_t pages;
    uint64_t next; /* in turn; also counts the pages of ONCE */
    const struct alias *ranks;
    uint64_t stride; /* spreads neighbouring ranks over the share, as keys of an application's are */
};

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Weights i^-exponent, scaled to a mean of 1, sorted into alias pairs. */
static struct alias *zipf_table(uint64_t pages, double exponent)
{
    struct alias *table = allocate(pages * sizeof *table);
    double *weight = allocate(pages * sizeof *weight), sum = 0;
    uint32_t *poor = allocate(pages * sizeof *poor);
    uint64_t poor_count = 0, rich_count = 0; /* the rich stand at the end of the same array */

    for (uint64_t i = 0; i < pages; i++)
        sum += weight[i] = pow((double)(i + 1), -exponent);
    for (uint64_t i = 0; i < pages; i++) {
        weight[i] *= (double)pages / sum;
        if (weight[i] < 1)
            poor[poor_count++] = (uint32_t)i;
        else
            poor[pages - ++rich_count] = (uint32_t)i;
    }
    for (uint64_t i = 0; i < pages; i++)
        table[i] = (struct alias){.keep = UINT32_MAX, .other = (uint32_t)i};
    while (poor_count > 0 && rich_count > 0) {
        uint32_t low = poor[--poor_count], high = poor[pages - rich_count];

        table[low] = (struct alias){.keep = (uint32_t)(weight[low] * 4294967295.0), .other = high};
        weight[high] -= 1 - weight[low];
        if (weight[high] < 1) {
            rich_count--;
            poor[poor_count++] = high;
        }
    }
    munmap(weight, pages * sizeof *weight);
    munmap(poor, pages * sizeof *poor);
    return table;
}

static struct order order_of(const uint64_t *values, uint64_t pages)
{
    struct order order = {.pages = pages, .stride = (uint64_t)((double)pages * 0.6180339887) | 1};

    while (common_divisor(order.stride, pages) != 1)
        order.stride += 2;
    if (values[PATTERN] == ZIPF)
        order.ranks = zipf_table(pages, (double)values[ZIPF_EXPONENT_PERCENT] / 100);
    return order;
}

static uint64_t next_page(struct order *order, const uint64_t *values, uint64_t *state)
{
    uint64_t pages = order->pages, hot, rank;

    switch (values[PATTERN]) {
    case RANDOM:
        return drawn_below(state, pages);
    case HOTSET:
        hot = (pages * values[HOT_MEMORY_PERCENT] + 99) / 100;
        if (drawn(state, values[HOT_ACCESS_PERCENT]) || hot == pages)
            return drawn_below(state, hot);
        return hot + drawn_below(state, pages - hot);
    case ZIPF:
        rank = drawn_below(state, pages);
        if ((uint32_t)splitmix64(state) > order->ranks[rank].keep)
            rank = order->ranks[rank].other;
        return rank * order->stride % pages;
    default:
        return order->next++ % pages;
    }
}

#endif
