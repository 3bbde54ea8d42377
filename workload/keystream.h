/* The keystream that the guest xors its memory with, and the candidate loops that make it.
 *
 * Content must flatter neither compression nor page hashing: no two pages alike, no page back at an earlier content. So
 * the lanes are seeded anew for every pass over every share. Lanes that run on from pass to pass would not do: the low
 * bits of a linear congruential generator have short periods, which cancel under xor on shares of a power of two. */
#ifndef KEYSTREAM_H
#define KEYSTREAM_H

#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16
#define PAGE_BYTES 4096u

struct keystream {
    uint64_t lane[LANES];
};

/* Xors `bytes` bytes, a multiple of TURN_BYTES, from `memory` on; the keystream goes on where it stood. */
typedef void keystream_loop(void *memory, size_t bytes, struct keystream *stream);

struct candidate {
    const char *name;
    keystream_loop *loop;
    int lanes; /* how many of them it uses */
};

/* splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (2014). */
static inline uint64_t splitmix64(uint64_t *state)
{
    uint64_t mixed = *state += 0x9E3779B97F4A7C15u;

    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return mixed ^ (mixed >> 31);
}

/* Where a sequence of splitmix64 begins for one share: different for each of its passes. */
static inline uint64_t seed_of(uint64_t share, uint64_t pass)
{
    uint64_t state = pass;
    uint64_t mixed = splitmix64(&state) ^ share;

    return splitmix64(&mixed);
}

static inline void keystream_seed(struct keystream *stream, uint64_t share, uint64_t pass)
{
    uint64_t state = seed_of(share, pass);

    for (int i = 0; i < LANES; i++)
        stream->lane[i] = splitmix64(&state);
}

/* Four lanes of a 64-bit linear congruential generator (Knuth's MMIX constants): four, since a multiplication must wait
 * for the one before it. The best under TCG, where each access to memory costs much more than arithmetic. */
#define LCG_STEP(x) ((x) = (x) * 6364136223846793005u + 1442695040888963407u)

static void xor_lcg4(void *memory, size_t bytes, struct keystream *stream)
{
    uint64_t *word = memory, *end = word + bytes / 8;
    uint64_t a = stream->lane[0], b = stream->lane[1], c = stream->lane[2], d = stream->lane[3];

    for (; word < end; word += 8) {
        word[0] ^= LCG_STEP(a);
        word[1] ^= LCG_STEP(b);
        word[2] ^= LCG_STEP(c);
        word[3] ^= LCG_STEP(d);
        word[4] ^= LCG_STEP(a);
        word[5] ^= LCG_STEP(b);
        word[6] ^= LCG_STEP(c);
        word[7] ^= LCG_STEP(d);
    }
    stream->lane[0] = a, stream->lane[1] = b, stream->lane[2] = c, stream->lane[3] = d;
}

/* Sixteen lanes of a 32-bit multiply-with-carry generator (x = low(x) * A + high(x)), two to an SSE2 register: natively
 * it keeps up with memory, where a 64-bit multiplication a word does not always. */
#define MWC_MULTIPLIER 0xFFFEB81Bu

static void xor_mwc16(void *memory, size_t bytes, struct keystream *stream)
{
    const __m128i multiplier = _mm_set1_epi64x(MWC_MULTIPLIER);
    __m128i *block = memory, *end = block + bytes / 16;
    __m128i lane[LANES / 2];

    for (int i = 0; i < LANES / 2; i++)
        lane[i] = _mm_loadu_si128((const __m128i *)stream->lane + i);
    for (; block < end; block += LANES / 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            lane[i] = _mm_add_epi64(_mm_mul_epu32(lane[i], multiplier), _mm_srli_epi64(lane[i], 32));
            _mm_store_si128(block + i, _mm_xor_si128(_mm_load_si128(block + i), lane[i]));
        }
    }
    for (int i = 0; i < LANES / 2; i++)
        _mm_storeu_si128((__m128i *)stream->lane + i, lane[i]);
}

static const struct candidate CANDIDATES[] = {
    {"lcg4", xor_lcg4, 4},
    {"mwc16", xor_mwc16, LANES},
};

#define CANDIDATE_COUNT (sizeof CANDIDATES / sizeof CANDIDATES[0])
/* What one turn of any candidate's loop takes: it is given multiples of this. */
#define TURN_BYTES (LANES * 8u)

static const struct candidate *chosen;

#endif
