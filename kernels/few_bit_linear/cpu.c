/* Products with few-bit weights on CPUs with AVX-512 BF16, and with AMX where available. See reference.py, which
 * defines what is computed, native.py, which compiles this file and calls it, and layout.h.
 *
 * Numbers are turned into bfloat16 by setting the bits of 128 above them: 128 + number is exact, and what it is too much
 * is taken off by the sum of the inputs. Products and sums are in float32, so that nothing is rounded but the result.
 */
#include <stdlib.h>

#include "layout.h"

enum { FEW = 8, BLOCK = 16, MANY = 32, AHEAD = 8 }; /* rows of a pass by VECTORS, of an AMX tile, of a pass by TILES */

struct job {
    const uint8_t *packed;
    const int64_t *starts; /* of each tile in `packed` */
    const uint8_t *kinds;  /* of each tile */
    const float *bias;     /* [N], or NULL */
    const half *x;         /* [M, K] bfloat16 */
    half *y;               /* [M, N] bfloat16 */
    int64_t rows, n, k, way;
    float factor; /* of all scales and centres */
    parallel_run *run; /* OpenMP's, torch's own pool; NULL: one thread */
    int64_t threads;
    /* set here */
    float *sums16, *sums32; /* of the inputs by unit, [units, rows] */
    int64_t next, chunk;
};

/* -- numbers ------------------------------------------------------------------------------------------------------ */

/* Picks bits of b where the mask a is set, else those of c. */
#define SELECT(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xCA)
#define PLUS_128(v, mask) _mm512_ternarylogic_epi32(v, mask, _mm512_set1_epi16(0x4300), 0xEA)

/* 32 numbers of a group, those at inputs 2 * part and 2 * part + 1 of all 16 outputs, as bfloat16 128 + number. */
ALWAYS __m512bh numbers(const uint8_t *p, const int kind, const int part)
{
    const int shift = 4 * (part & 3);
    __m512i low = _mm512_loadu_si512(p + 64 + 64 * (part >> 2));
    low = shift ? _mm512_srli_epi16(low, shift) : low;
    if (kind == FOUR)
        return (__m512bh)PLUS_128(low, _mm512_set1_epi16(0x0F));
    const int place = 2 * (part & 7) - 4;
    __m512i high = _mm512_loadu_si512(p + 320 + 64 * (part >> 3));
    high = place < 0 ? _mm512_slli_epi16(high, -place) : place > 0 ? _mm512_srli_epi16(high, place) : high;
    return (__m512bh)PLUS_128(SELECT(_mm512_set1_epi16(0x0F), low, high), _mm512_set1_epi16(0x3F));
}

ALWAYS __m512 floats(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

ALWAYS void scales_of(const uint8_t *p, const int kind, const int unit, __m512 *scale, __m512 *offset)
{
    if (kind == FOUR) {
        *scale = floats(p);
        *offset = _mm512_fnmadd_ps(*scale, _mm512_set1_ps(136), floats(p + 32));
    } else {
        *scale = floats(p + 32 * unit);
        *offset = _mm512_mul_ps(*scale, _mm512_set1_ps(-160));
    }
}

ALWAYS void store(const struct job *job, int64_t tile, int64_t row, __m512 sum)
{
    const int64_t column = tile * WIDTH, left = job->n - column;
    const __mmask16 mask = left >= WIDTH ? 0xFFFF : (1u << left) - 1;
    sum = _mm512_mul_ps(sum, _mm512_set1_ps(job->factor));
    if (job->bias)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, job->bias + column));
    _mm256_mask_storeu_epi16(job->y + row * job->n + column, mask, (__m256i)_mm512_cvtneps_pbh(sum));
}

ALWAYS void fetch(const uint8_t *p, const int bytes)
{
    for (int at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)p + AHEAD * bytes + at, _MM_HINT_T0);
}

/* -- by dot products ---------------------------------------------------------------------------------------------- */

ALWAYS void by_vectors(const struct job *job, int64_t tile, int64_t first, const int kind, const int rows)
{
    const int bytes = kind == FOUR ? FOUR_BYTES : SIX_BYTES, units = kind == FOUR ? 1 : 2, parts = 16 / units;
    const int64_t k = job->k, all = job->rows;
    const float *sums = kind == FOUR ? job->sums32 : job->sums16;
    const uint8_t *p = job->packed + job->starts[tile];
    const half *x = job->x + first * k;
    __m512 total[FEW];
    for (int row = 0; row < rows; row++)
        total[row] = _mm512_setzero_ps();
    for (int64_t group = 0; group < k / GROUP; group++, p += bytes) {
        fetch(p, bytes);
#pragma GCC unroll 2
        for (int unit = 0; unit < units; unit++) {
            __m512 scale, offset, dot[FEW], other[FEW]; /* two chains where there are registers for them */
            scales_of(p, kind, unit, &scale, &offset);
            for (int row = 0; row < rows; row++)
                dot[row] = other[row] = _mm512_setzero_ps();
#pragma GCC unroll 16
            for (int part = 0; part < parts; part++) {
                const __m512bh w = numbers(p, kind, unit * parts + part);
                for (int row = 0; row < rows; row++) {
                    const half *at = x + row * k + group * GROUP + 2 * (unit * parts + part);
                    const __m512bh pair = (__m512bh)_mm512_set1_epi32(*(const int *)at);
                    if (rows <= 2 && part % 2)
                        other[row] = _mm512_dpbf16_ps(other[row], w, pair);
                    else
                        dot[row] = _mm512_dpbf16_ps(dot[row], w, pair);
                }
            }
            const float *sum = sums + (group * units + unit) * all + first;
            for (int row = 0; row < rows; row++) {
                if (rows <= 2)
                    dot[row] = _mm512_add_ps(dot[row], other[row]);
                total[row] = _mm512_fmadd_ps(scale, dot[row], total[row]);
                total[row] = _mm512_fmadd_ps(offset, _mm512_set1_ps(sum[row]), total[row]);
            }
        }
    }
    for (int row = 0; row < rows; row++)
        store(job, tile, first + row, total[row]);
}

static void tile_by_vectors(const struct job *job, int64_t tile)
{
#define CASE(rows)                                                                                                     \
    case rows:                                                                                                         \
        if (job->kinds[tile] == FOUR)                                                                                  \
            by_vectors(job, tile, first, FOUR, rows);                                                                  \
        else                                                                                                           \
            by_vectors(job, tile, first, SIX, rows);                                                                   \
        break;
    for (int64_t first = 0; first < job->rows; first += FEW)
        switch (job->rows - first) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
        default:
            CASE(8)
        }
#undef CASE
}

/* -- by AMX ------------------------------------------------------------------------------------------------------- */

#ifdef __AMX_BF16__
/* Tiles 0 to 3 are results (two blocks of rows of two units), 4 and 5 weights, 6 and 7 inputs. */
static void shape(int64_t rows, const int kind)
{
    struct shapes shapes;
    memset(&shapes, 0, sizeof shapes);
    shapes.palette = 1;
    const int span = kind == FOUR ? 32 : 16;
    for (int tile = 0; tile < 8; tile++) {
        const int second = tile == 1 || tile == 3 || tile == 7; /* block of rows */
        const int64_t block = second ? (rows > BLOCK ? rows - BLOCK : 1) : (rows > BLOCK ? BLOCK : rows);
        shapes.bytes[tile] = tile >= 6 ? 2 * span : 64;
        shapes.rows[tile] = tile == 4 || tile == 5 ? span / 2 : block;
    }
    _tile_loadconfig(&shapes);
}

struct scratch {
    float total[MANY][WIDTH], result[2][2][MANY][WIDTH]; /* by parity of the step, unit and row */
    char weights[2][2][1024];
    __m512 scale[2][2], offset[2][2];
} __attribute__((aligned(64)));

/* Two units are a step: the tiles' long latencies are hidden by adding up a step's results during the next. */
ALWAYS void add_up(struct scratch *s, const int parity, const float *sums, int64_t all, const int64_t rows)
{
    for (int64_t row = 0; row < rows; row++) {
        __m512 total = _mm512_load_ps(s->total[row]);
        for (int unit = 0; unit < 2; unit++) {
            total = _mm512_fmadd_ps(s->scale[parity][unit], _mm512_load_ps(s->result[parity][unit][row]), total);
            total = _mm512_fmadd_ps(s->offset[parity][unit], _mm512_set1_ps(sums[unit * all + row]), total);
        }
        _mm512_store_ps(s->total[row], total);
    }
}

ALWAYS void by_tiles(const struct job *job, struct scratch *s, int64_t tile, int64_t first, const int64_t rows,
                     const int kind, const int two)
{
    const int bytes = kind == FOUR ? FOUR_BYTES : SIX_BYTES, span = kind == FOUR ? 32 : 16, parts = span / 2;
    const int64_t k = job->k, all = job->rows, units = k / span, steps = (units + 1) / 2;
    const float *sums = (kind == FOUR ? job->sums32 : job->sums16) + first;
    const uint8_t *p = job->packed + job->starts[tile];
    const half *x = job->x + first * k;
    memset(s->total, 0, sizeof s->total[0] * rows);
    for (int64_t step = 0; step < steps; step++) {
        const int parity = step & 1, single = 2 * step + 1 == units;
#pragma GCC unroll 2
        for (int unit = 0; unit < 2; unit++) {
            char *weights = s->weights[parity][unit];
            const uint8_t *group = kind == FOUR ? p + unit * bytes : p;
            if (single && unit) { /* there is no second: the first again, times zero */
                s->scale[parity][1] = s->offset[parity][1] = _mm512_setzero_ps();
                break;
            }
            if (kind == FOUR || !unit)
                fetch(group, bytes);
            scales_of(group, kind, unit, &s->scale[parity][unit], &s->offset[parity][unit]);
#pragma GCC unroll 16
            for (int part = 0; part < parts; part++)
                _mm512_store_si512(weights + 64 * part, (__m512i)numbers(group, kind, (kind == FOUR ? 0 : unit * parts) + part));
        }
        const half *at = x + 2 * step * span, *next = single ? at : at + span;
        float(*result)[MANY][WIDTH] = s->result[parity];
        _tile_loadd(4, s->weights[parity][0], 64);
        _tile_loadd(6, at, 2 * k);
        _tile_zero(0);
        _tile_dpbf16ps(0, 6, 4);
        if (two) {
            _tile_loadd(7, at + BLOCK * k, 2 * k);
            _tile_zero(1);
            _tile_dpbf16ps(1, 7, 4);
        }
        _tile_loadd(5, s->weights[parity][single ? 0 : 1], 64);
        _tile_loadd(6, next, 2 * k);
        _tile_zero(2);
        _tile_dpbf16ps(2, 6, 5);
        if (two) {
            _tile_loadd(7, next + BLOCK * k, 2 * k);
            _tile_zero(3);
            _tile_dpbf16ps(3, 7, 5);
        }
        _tile_stored(0, result[0], 64);
        _tile_stored(2, result[1], 64);
        if (two) {
            _tile_stored(1, result[0][BLOCK], 64);
            _tile_stored(3, result[1][BLOCK], 64);
        }
        if (step)
            add_up(s, !parity, sums + (2 * step - 2) * all, all, rows);
        p += kind == FOUR ? 2 * bytes : bytes;
    }
    const int64_t last = steps - 1;
    const int parity = last & 1;
    if (2 * last + 1 == units) /* its second sum would be read past the end */
        for (int64_t row = 0; row < rows; row++) {
            __m512 total = _mm512_fmadd_ps(s->scale[parity][0], _mm512_load_ps(s->result[parity][0][row]), _mm512_load_ps(s->total[row]));
            total = _mm512_fmadd_ps(s->offset[parity][0], _mm512_set1_ps(sums[2 * last * all + row]), total);
            _mm512_store_ps(s->total[row], total);
        }
    else
        add_up(s, parity, sums + 2 * last * all, all, rows);
    for (int64_t row = 0; row < rows; row++)
        store(job, tile, first + row, _mm512_load_ps(s->total[row]));
}

static void tiles_by_tiles(const struct job *job, int64_t begin, int64_t end)
{
    struct scratch scratch;
    struct shapes before; /* shapes that this thread had before */
    _tile_storeconfig(&before);
    for (int64_t first = 0; first < job->rows; first += MANY) {
        const int64_t rows = job->rows - first < MANY ? job->rows - first : MANY;
        int kind = 0;
        for (int64_t tile = begin; tile < end; tile++) {
            if (kind != job->kinds[tile])
                shape(rows, kind = job->kinds[tile]);
            if (kind == FOUR && rows > BLOCK)
                by_tiles(job, &scratch, tile, first, rows, FOUR, 1);
            else if (kind == FOUR)
                by_tiles(job, &scratch, tile, first, rows, FOUR, 0);
            else if (rows > BLOCK)
                by_tiles(job, &scratch, tile, first, rows, SIX, 1);
            else
                by_tiles(job, &scratch, tile, first, rows, SIX, 0);
        }
    }
    restore_shapes(&before);
}
#endif

/* -- the product -------------------------------------------------------------------------------------------------- */

static void work(void *data)
{
    struct job *job = data;
    const int64_t tiles = (job->n + WIDTH - 1) / WIDTH;
    for (;;) {
        const int64_t begin = __atomic_fetch_add(&job->next, job->chunk, __ATOMIC_RELAXED);
        if (begin >= tiles)
            return;
        const int64_t end = begin + job->chunk < tiles ? begin + job->chunk : tiles;
#ifdef __AMX_BF16__
        if (job->way == TILES) {
            tiles_by_tiles(job, begin, end);
            continue;
        }
#endif
        for (int64_t tile = begin; tile < end; tile++)
            tile_by_vectors(job, tile);
    }
}

/* Sums of the inputs by 16 and by 32. */
static void add_inputs(struct job *job)
{
    const int64_t units = job->k / 16;
    for (int64_t row = 0; row < job->rows; row++) {
        const half *x = job->x + row * job->k;
        for (int64_t unit = 0; unit < units; unit++) {
            const __m256i raw = _mm256_loadu_si256((const void *)(x + 16 * unit));
            const float sum = _mm512_reduce_add_ps((__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
            job->sums16[unit * job->rows + row] = sum;
            float *pair = job->sums32 + unit / 2 * job->rows + row;
            *pair = unit % 2 ? *pair + sum : sum;
        }
    }
}

/* y = x W^T + bias. Returns 0, or -1 if memory is short. */
int few_bit_linear(struct job *job)
{
    const int64_t tiles = (job->n + WIDTH - 1) / WIDTH, count = job->k / 16 * job->rows;
    job->sums16 = malloc(sizeof(float) * (count + count / 2 + 1));
    if (!job->sums16)
        return -1;
    job->sums32 = job->sums16 + count;
    add_inputs(job);
    job->next = 0;
    job->chunk = job->run ? 1 + tiles / (job->threads * 16) : tiles; /* more than threads: some may be slow */
    if (job->run && tiles > job->chunk)
        job->run(work, job, job->threads, 0);
    else
        work(job);
    free(job->sums16);
    return 0;
}

/* The available ways to multiply, of all kernels, one bit each. */
int available_ways(void)
{
    int ways = 1 << VECTORS;
#ifdef __AMX_BF16__
    if (amx_allowed())
        ways |= 1 << TILES;
#endif
    return ways;
}
