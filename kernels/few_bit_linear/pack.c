/* Finds out whether bfloat16 weights are dequantised few-bit numbers, and packs them.
 *
 * A group is four-bit if its 32 weights are `lowest + step * i` with whole i up to 15, six-bit if each 16 of them are
 * `step * i` with i in -32..31: except for rounding to bfloat16. This does not happen by chance: weights that were never
 * quantised fail at the first group.
 */
#include <math.h>

#include "layout.h"

#define ROUNDING 0x1.02p-8f /* half a unit in the last place of bfloat16 for numbers from 1 to 2; and a little more */

struct source {
    const half *weights; /* [N, K] bfloat16 */
    int64_t n, k;
    uint8_t *kinds;  /* of each tile, guessed: 0 where it is neither */
    int64_t *starts; /* of each tile in `packed` */
    uint8_t *packed;
    float factor; /* that scales and centres are divided by */
    parallel_run *run; /* OpenMP's, torch's own pool; NULL: one thread */
    int64_t threads;
    /* set here */
    int64_t next, packs, failed;
};

struct fit {
    float scale[2], centre; /* six bits: of each half of the group */
    int32_t numbers[GROUP] __attribute__((aligned(64)));
};

#define ROUND(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

/* How far rounding to bfloat16 may have moved numbers. */
ALWAYS __m512 roundings(__m512 v)
{
    const __m512 power = (__m512)_mm512_and_epi32((__m512i)v, _mm512_set1_epi32(0x7F800000)); /* of two, below */
    return _mm512_mul_ps(power, _mm512_set1_ps(ROUNDING));
}

/* Whether |a - b| <= limit everywhere; never where one is no number. */
ALWAYS int within(__m512 a, __m512 b, __m512 limit)
{
    return _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(a, b)), limit, _CMP_LE_OQ) == 0xFFFF;
}

static int fit_four(const __m512 *v, struct fit *fit)
{
    const float low = _mm512_reduce_min_ps(_mm512_min_ps(v[0], v[1]));
    const float high = _mm512_reduce_max_ps(_mm512_max_ps(v[0], v[1]));
    if (!(fabsf(low) < INFINITY && fabsf(high) < INFINITY))
        return 0;
    const __m512 ends = roundings(_mm512_set1_ps(fmaxf(fabsf(low), fabsf(high))));
    __m512 limit[2], i[2];
    for (int h = 0; h < 2; h++)
        limit[h] = _mm512_add_ps(roundings(v[h]), ends);
    for (int levels = 15; levels > 0; levels--) {
        const float step = (high - low) / levels;
        for (int h = 0; h < 2; h++) {
            const __m512 from = _mm512_sub_ps(v[h], _mm512_set1_ps(low));
            i[h] = step > 0 ? ROUND(_mm512_div_ps(from, _mm512_set1_ps(step))) : _mm512_setzero_ps();
        }
        int fits = 1;
        for (int h = 0; h < 2; h++)
            fits &= within(_mm512_fmadd_ps(i[h], _mm512_set1_ps(step), _mm512_set1_ps(low)), v[h], limit[h]);
        if (!fits)
            continue;
        /* Least squares, because the ends are rounded as well. */
        const float mean = _mm512_reduce_add_ps(_mm512_add_ps(v[0], v[1])) / GROUP;
        const float middle = _mm512_reduce_add_ps(_mm512_add_ps(i[0], i[1])) / GROUP;
        __m512 square = _mm512_setzero_ps(), product = _mm512_setzero_ps();
        for (int h = 0; h < 2; h++) {
            const __m512 d = _mm512_sub_ps(i[h], _mm512_set1_ps(middle));
            square = _mm512_fmadd_ps(d, d, square);
            product = _mm512_fmadd_ps(d, _mm512_sub_ps(v[h], _mm512_set1_ps(mean)), product);
        }
        const float squares = _mm512_reduce_add_ps(square);
        const float scale = squares > 0 ? _mm512_reduce_add_ps(product) / squares : 0;
        const float base = mean - scale * middle;
        for (int h = 0; h < 2; h++)
            fits &= within(_mm512_fmadd_ps(i[h], _mm512_set1_ps(scale), _mm512_set1_ps(base)), v[h], limit[h]);
        if (!fits)
            continue;
        fit->scale[0] = fit->scale[1] = scale;
        fit->centre = base + 8 * scale;
        for (int h = 0; h < 2; h++)
            _mm512_store_si512(fit->numbers + 16 * h, _mm512_cvtps_epi32(i[h]));
        return 1;
    }
    return 0;
}

/* Of 16 weights. */
static int fit_six(__m512 v, float *scale, int32_t *numbers)
{
    const __m512 size = _mm512_abs_ps(v);
    const float peak = _mm512_reduce_max_ps(size);
    if (!(peak < INFINITY))
        return 0;
    if (peak == 0) {
        *scale = 0;
        _mm512_store_si512(numbers, _mm512_set1_epi32(32));
        return _mm512_cmp_ps_mask(v, v, _CMP_EQ_OQ) == 0xFFFF;
    }
    const __m512 rounding = roundings(v), least = _mm512_sub_ps(size, rounding), most = _mm512_add_ps(size, rounding);
    for (int levels = 32; levels > 0; levels--) {
        __m512 i = ROUND(_mm512_div_ps(v, _mm512_set1_ps(peak / levels)));
        const __mmask16 some = _mm512_cmp_ps_mask(i, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        if (_mm512_mask_cmp_ps_mask(~some, size, _mm512_setzero_ps(), _CMP_NEQ_UQ))
            continue;
        /* The steps from which each weight may have been rounded; they must have some in common. */
        const __m512 count = _mm512_mask_abs_ps(_mm512_set1_ps(1), some, i);
        const float from = _mm512_mask_reduce_max_ps(some, _mm512_div_ps(least, count));
        const float to = _mm512_mask_reduce_min_ps(some, _mm512_div_ps(most, count));
        const float lowest = _mm512_reduce_min_ps(i), highest = _mm512_reduce_max_ps(i);
        if (!(from <= to) || (lowest < -31 && highest > 31))
            continue;
        if (highest > 31)
            i = _mm512_sub_ps(_mm512_setzero_ps(), i);
        const float squares = _mm512_reduce_add_ps(_mm512_mul_ps(i, i));
        const float best = _mm512_reduce_add_ps(_mm512_mul_ps(v, i)) / squares; /* least squares */
        *scale = copysignf(fminf(fmaxf(fabsf(best), from), to), best);
        _mm512_store_si512(numbers, _mm512_add_epi32(_mm512_cvtps_epi32(i), _mm512_set1_epi32(32)));
        return 1;
    }
    return 0;
}

/* One output's part of a group; outputs beyond the last are zero. */
static int fit_group(const struct source *source, int64_t output, int64_t group, int kind, struct fit *fit)
{
    __m512 v[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (output < source->n)
        for (int h = 0; h < 2; h++) {
            const half *at = source->weights + output * source->k + group * GROUP + 16 * h;
            const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)at));
            v[h] = (__m512)_mm512_slli_epi32(wide, 16);
        }
    fit->centre = 0;
    if (kind == FOUR)
        return fit_four(v, fit);
    return fit_six(v[0], fit->scale, fit->numbers) && fit_six(v[1], fit->scale + 1, fit->numbers + 16);
}

/* The kind that a tile's first group has; 0: neither. */
static int guess(const struct source *source, int64_t tile)
{
    const int kinds[2] = {FOUR, SIX};
    struct fit fit;
    for (int i = 0; i < 2; i++) {
        int lane = 0;
        while (lane < WIDTH && fit_group(source, tile * WIDTH + lane, 0, kinds[i], &fit))
            lane++;
        if (lane == WIDTH)
            return kinds[i];
    }
    return 0;
}

static void put_floats(uint8_t *target, const float *numbers)
{
    _mm256_storeu_si256((void *)target, _mm512_cvtps_ph(_mm512_loadu_ps(numbers), _MM_FROUND_TO_NEAREST_INT));
}

/* Whether all groups are of the tile's kind. */
static int pack_tile(const struct source *source, int64_t tile)
{
    const int kind = source->kinds[tile], bytes = kind == FOUR ? FOUR_BYTES : SIX_BYTES;
    uint8_t *p = source->packed + source->starts[tile];
    for (int64_t group = 0; group < source->k / GROUP; group++, p += bytes) {
        struct fit fits[WIDTH];
        float first[WIDTH], second[WIDTH];
        half *low = (half *)(p + 64), *high = (half *)(p + 320);
        for (int lane = 0; lane < WIDTH; lane++) {
            struct fit *fit = fits + lane;
            if (!fit_group(source, tile * WIDTH + lane, group, kind, fit))
                return 0;
            first[lane] = fit->scale[0] / source->factor;
            second[lane] = (kind == FOUR ? fit->centre : fit->scale[1]) / source->factor;
        }
        put_floats(p, first);
        put_floats(p + 32, second);
        for (int word = 0; word < 128; word++) {
            const int32_t *numbers = fits[word / 2 % WIDTH].numbers + word / 32 * 8 + word % 2;
            low[word] = (numbers[0] & 15) | (numbers[2] & 15) << 4 | (numbers[4] & 15) << 8 | (numbers[6] & 15) << 12;
        }
        for (int word = 0; kind == SIX && word < 64; word++) {
            const int32_t *numbers = fits[word / 2 % WIDTH].numbers + word / 32 * 16 + word % 2;
            unsigned bits = 0;
            for (int i = 0; i < 8; i++)
                bits |= (unsigned)(numbers[2 * i] >> 4) << 2 * i;
            high[word] = bits;
        }
    }
    return 1;
}

static void work(void *data)
{
    struct source *source = data;
    const int64_t tiles = (source->n + WIDTH - 1) / WIDTH;
    for (;;) {
        const int64_t tile = __atomic_fetch_add(&source->next, 1, __ATOMIC_RELAXED);
        if (tile >= tiles || __atomic_load_n(&source->failed, __ATOMIC_RELAXED))
            return;
        if (!(source->packs ? pack_tile(source, tile) : (source->kinds[tile] = guess(source, tile))))
            __atomic_store_n(&source->failed, 1, __ATOMIC_RELAXED);
    }
}

static int run(struct source *source)
{
    source->next = source->failed = 0;
    if (source->run)
        source->run(work, source, source->threads, 0);
    else
        work(source);
    return !source->failed;
}

/* Guess the kind of every tile from its first group; returns whether all have one. */
int few_bit_guess(struct source *source)
{
    source->packs = 0;
    return run(source);
}

/* Pack all tiles as guessed, with `starts`, `packed` and `factor` set; returns whether the guesses were right. */
int few_bit_pack(struct source *source)
{
    source->packs = 1;
    return run(source);
}
