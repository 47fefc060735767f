/* Tree attention in bfloat16 on a CPU with AVX-512 BF16, or with AMX: the whole work list in one call. See reference.py for what is computed
 * and native.py for how a work list becomes pieces.
 *
 * A piece is some neighbouring rows of the batch against some keys, for one key head at a time: FlashAttention (Dao et
 * al., 2022) over blocks of 64 keys, which are laid out once for all of the piece's queries. Scores, sums and maxima are
 * float32; probabilities are rounded to bfloat16 for the product with the values, as torch's kernel does. A row that has
 * several pieces is merged by the thread that computes the last of them.
 */
#include <stddef.h>

#include "native.h"

#define LOG2_E 0x1.715476p0f
#define LEAST -1e20f /* below every score, and far above masked ones, however they are scaled */

enum { MOST_QUERIES = 96, MOST_DIM = 576, KEYS = 64, TILE = 16 };
enum { FEW = 4 };                /* queries of a pass by VECTORS */

struct piece {
    int32_t row_begin, row_end;
    int32_t first; /* of its blocks in `blocks` */
    int32_t begin; /* its first key, counted from the first block's start */
    int32_t keys;
    int32_t seen; /* row r sees the first r + seen of them */
    int32_t position; /* of its first key in the sequences */
    int32_t unused;
    int64_t part; /* where its results go, [rows, heads]; -1: they are the output */
};

struct attention {
    const half *query, *key_cache, *value_cache; /* [rows, heads, dim] by the strides below, [kv_heads, slots, dim] */
    half *output;                                /* [rows, heads, dim] */
    const struct piece *pieces;
    const int32_t *blocks, *ends; /* `ends`: [rows], of each row's places in `places` */
    const int64_t *places;        /* of the row's results, one per piece */
    float *values, *levels;       /* results: sums [places, dim], maximum and divisor [places, 2] */
    int32_t *left;                /* [rows, kv_heads], pieces that are not yet computed */
    const int32_t *floors;        /* [rows], the first position that each row sees; NULL: the first of all */
    const float *sinks;           /* [heads], a score each whose value is 0; NULL: none */
    int64_t count, rows, kv_heads, group, dim, slots, block_size, way, query_strides[2]; /* of rows and heads */
    float scale;
    float cap; /* scores become cap * tanh(score / cap); 0: they stay */
    struct pool pool;
};

struct scratch {
    half query[MOST_QUERIES * MOST_DIM];
    half keys[KEYS * MOST_DIM];   /* [dim / 32][4 of 16 keys][16 pairs of numbers][16 keys][2] */
    half values[KEYS * MOST_DIM]; /* [2 of 32 keys][dim / 16][16 pairs of keys][16 numbers][2] */
    half weights[MOST_QUERIES / TILE][2][TILE][32]; /* by 16 queries and halves of the block */
    float scores[MOST_QUERIES][KEYS];
    float sums[MOST_QUERIES * MOST_DIM];
    float divisors[MOST_QUERIES][16];
    float maxima[MOST_QUERIES] __attribute__((aligned(64)));
} __attribute__((aligned(64)));

/* 16 rows of 16 words become columns. */
ALWAYS void transpose(const half *const *rows, int64_t at, half *target)
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_loadu_si512(rows[i] + at);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* a[4 g + i]: words i, 4 + i, 8 + i and 12 + i of rows 4 g to 4 g + 3 */
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xDD);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xDD);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_store_si512(target + 32 * i, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        _mm512_store_si512(target + 32 * (i + 4), _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_store_si512(target + 32 * (i + 8), _mm512_shuffle_i32x4(b[i], b[i + 8], 0xDD));
        _mm512_store_si512(target + 32 * (i + 12), _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xDD));
    }
}

/* Lay out a block of keys and values; what is beyond the last is the last again. */
static void lay_out(const struct attention *a, const struct piece *piece, int64_t head, int64_t from, struct scratch *s)
{
    const half *keys[KEYS], *values[KEYS];
    const int64_t dim = a->dim, size = a->block_size;
    const int32_t *block = a->blocks + piece->first + (piece->begin + from) / size;
    int64_t offset = (piece->begin + from) % size;
    for (int64_t i = 0; i < KEYS; i++) {
        const int64_t place = (head * a->slots + *block * size + offset) * dim;
        keys[i] = a->key_cache + place;
        values[i] = a->value_cache + place;
        if (from + i + 1 < piece->keys && ++offset == size) {
            offset = 0;
            block++;
        }
    }
    for (int64_t part = 0; part < dim / 32; part++)
        for (int i = 0; i < 4; i++)
            transpose(keys + 16 * i, 32 * part, s->keys + (part * 4 + i) * 512);
    for (int pair = 0; pair < KEYS / 2; pair++)
        for (int64_t part = 0; part < dim / 16; part++) {
            const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values[2 * pair] + 16 * part)));
            const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values[2 * pair + 1] + 16 * part)));
            half *target = s->values + (((pair / 16) * (dim / 16) + part) * 16 + pair % 16) * 32;
            _mm512_store_si512(target, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

/* The largest number of each of 16 vectors. */
ALWAYS __m512 largest(const __m512 *v)
{
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_max_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xEE));
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_max_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xDD));
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_max_ps(_mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0x44),
                             _mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0xEE));
    const __m512 found = _mm512_max_ps(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xDD));
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), found);
}

/* 2^x with a relative error below 2^-17, much less than bfloat16's; 2^-126 for all below. */
ALWAYS __m512 power(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-126), x); /* NaN stays NaN: the second operand is returned then */
    const __m512 n = _mm512_roundscale_ps(x, 8), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(9.56051021e-03f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.59170392e-02f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40249811e-01f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93121968e-01f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.99999191e-01f));
    return _mm512_scalef_ps(p, n);
}

/* tanh(x) with a relative error below 2^-14: its series near 0, where the other formula cancels. */
ALWAYS __m512 hyperbolic(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1), e = power(_mm512_mul_ps(x, _mm512_set1_ps(2 * LOG2_E)));
    const __m512 square = _mm512_mul_ps(x, x);
    __m512 near = _mm512_set1_ps(62.0f / 2835);
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-17.0f / 315));
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(2.0f / 15));
    near = _mm512_fmadd_ps(near, square, _mm512_set1_ps(-1.0f / 3));
    near = _mm512_mul_ps(_mm512_fmadd_ps(near, square, one), x);
    return _mm512_mask_sub_ps(near, _mm512_cmp_ps_mask(square, _mm512_set1_ps(0.09f), _CMP_NLT_UQ), one,
                              _mm512_div_ps(_mm512_set1_ps(2), _mm512_add_ps(e, one)));
}

/* Cap the scores of 16 queries. */
ALWAYS void limit(struct scratch *s, int64_t first, float scale, float cap)
{
    const __m512 inner = _mm512_set1_ps(scale / cap), outer = _mm512_set1_ps(cap);
    float *scores = s->scores[first];
    for (int i = 0; i < TILE * KEYS; i += 16)
        _mm512_store_ps(scores + i,
                        _mm512_mul_ps(outer, hyperbolic(_mm512_mul_ps(_mm512_load_ps(scores + i), inner))));
}

/* Scores of 16 queries become weights; of their earlier sums what the new maxima leave. `seen`: keys of the block that
 * each query sees; NULL: all. `unseen`: how many of the first it does not; NULL: none. A query that sees no key of a
 * block weighs each by 2^-126.
 */
ALWAYS void weigh(struct scratch *s, int64_t first, const int32_t *seen, const int32_t *unseen, int64_t dim, float scale)
{
    __m512 highest[TILE];
    float rests[TILE] __attribute__((aligned(64)));
    for (int row = 0; row < TILE; row++) {
        float *scores = s->scores[first + row];
        for (int i = 0; seen && i < 4; i++) { /* beyond them: far below everything */
            const __mmask16 mask = seen[row] > 16 * i ? lanes(16 * i, seen[row]) : 0;
            _mm512_mask_store_ps(scores + 16 * i, ~mask, _mm512_set1_ps(-1e30f));
        }
        for (int i = 0; unseen && i < 4; i++)
            _mm512_mask_store_ps(scores + 16 * i, unseen[row] > 16 * i ? lanes(16 * i, unseen[row]) : 0,
                                 _mm512_set1_ps(-1e30f));
        highest[row] = _mm512_max_ps(_mm512_max_ps(_mm512_load_ps(scores), _mm512_load_ps(scores + 16)),
                                     _mm512_max_ps(_mm512_load_ps(scores + 32), _mm512_load_ps(scores + 48)));
    }
    const __m512 before = _mm512_load_ps(s->maxima + first), factor = _mm512_set1_ps(scale);
    const __m512 now = _mm512_max_ps(before, _mm512_mul_ps(largest(highest), factor));
    __mmask16 risen = _mm512_cmp_ps_mask(now, before, _CMP_GT_OQ);
    _mm512_store_ps(s->maxima + first, now);
    _mm512_store_ps(rests, power(_mm512_sub_ps(before, now)));
    for (; risen; risen &= risen - 1) {
        const int64_t row = __builtin_ctz(risen), query = first + row;
        const __m512 rest = _mm512_set1_ps(rests[row]);
        float *sums = s->sums + query * dim, *divisor = s->divisors[query];
        for (int64_t at = 0; at < dim; at += 16)
            _mm512_store_ps(sums + at, _mm512_mul_ps(_mm512_load_ps(sums + at), rest));
        _mm512_store_ps(divisor, _mm512_mul_ps(_mm512_load_ps(divisor), rest));
    }
    for (int row = 0; row < TILE; row++) {
        const __m512 top = _mm512_set1_ps(s->maxima[first + row]);
        half(*weights)[TILE][32] = s->weights[first / TILE];
        __m512 v[4], divisor = _mm512_load_ps(s->divisors[first + row]);
        for (int i = 0; i < 4; i++)
            v[i] = power(_mm512_fmsub_ps(_mm512_load_ps(s->scores[first + row] + 16 * i), factor, top));
        divisor = _mm512_add_ps(divisor, _mm512_add_ps(_mm512_add_ps(v[0], v[1]), _mm512_add_ps(v[2], v[3])));
        _mm512_store_ps(s->divisors[first + row], divisor);
        _mm512_store_si512(weights[0][row], (__m512i)_mm512_cvtne2ps_pbh(v[1], v[0]));
        _mm512_store_si512(weights[1][row], (__m512i)_mm512_cvtne2ps_pbh(v[3], v[2]));
    }
}

/* -- products by AVX-512 ------------------------------------------------------------------------------------------ */

/* Two neighbouring numbers, 16 times. */
ALWAYS __m512bh twice(const half *x)
{
    int32_t both;
    memcpy(&both, x, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

/* Scores of 4 queries with the block. */
ALWAYS void score_by_vectors(struct scratch *s, int64_t first, int64_t dim)
{
    const half *query = s->query + first * dim;
    __m512 sums[FEW][4];
    for (int row = 0; row < FEW; row++)
        for (int i = 0; i < 4; i++)
            sums[row][i] = _mm512_setzero_ps();
    for (int64_t part = 0; part < dim / 32; part++)
        for (int64_t pair = 0; pair < 16; pair++) {
            const half *keys = s->keys + part * 4 * 512 + 32 * pair;
            __m512bh key[4];
            for (int i = 0; i < 4; i++)
                key[i] = (__m512bh)_mm512_load_si512(keys + 512 * i);
            for (int row = 0; row < FEW; row++) {
                const __m512bh two = twice(query + row * dim + 32 * part + 2 * pair);
                for (int i = 0; i < 4; i++)
                    sums[row][i] = _mm512_dpbf16_ps(sums[row][i], two, key[i]);
            }
        }
    for (int row = 0; row < FEW; row++)
        for (int i = 0; i < 4; i++)
            _mm512_store_ps(s->scores[first + row] + 16 * i, sums[row][i]);
}

/* Add the weighted values of the block to `width` vectors of the sums of 4 queries, from vector `part` on. */
ALWAYS void add_some_by_vectors(struct scratch *s, int64_t query, int64_t dim, int64_t part, const int width)
{
    __m512 sums[FEW][4];
    for (int row = 0; row < FEW; row++)
        for (int i = 0; i < width; i++)
            sums[row][i] = _mm512_load_ps(s->sums + (query + row) * dim + 16 * (part + i));
    for (int64_t side = 0; side < 2; side++)
        for (int64_t pair = 0; pair < 16; pair++) {
            const half *values = s->values + (side * (dim / 16) + part) * 512 + 32 * pair;
            __m512bh value[4];
            for (int i = 0; i < width; i++)
                value[i] = (__m512bh)_mm512_load_si512(values + 512 * i);
            for (int row = 0; row < FEW; row++) {
                const __m512bh two = twice(s->weights[query / TILE][side][query % TILE + row] + 2 * pair);
                for (int i = 0; i < width; i++)
                    sums[row][i] = _mm512_dpbf16_ps(sums[row][i], two, value[i]);
            }
        }
    for (int row = 0; row < FEW; row++)
        for (int i = 0; i < width; i++)
            _mm512_store_ps(s->sums + (query + row) * dim + 16 * (part + i), sums[row][i]);
}

ALWAYS void add_by_vectors(struct scratch *s, int64_t query, int64_t dim)
{
    int64_t part = 0;
    for (; part + 4 <= dim / 16; part += 4)
        add_some_by_vectors(s, query, dim, part, 4);
    if (part < dim / 16)
        add_some_by_vectors(s, query, dim, part, 2);
}

/* -- by AMX ------------------------------------------------------------------------------------------------------- */

#ifdef __AMX_BF16__
/* Scores of 16 queries with the block. */
ALWAYS void score_by_tiles(struct scratch *s, int64_t first, int64_t dim)
{
    const half *query = s->query + first * dim;
    float *scores = s->scores[first];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t part = 0; part < dim / 32; part++) {
        const half *keys = s->keys + part * 4 * 512;
        _tile_loadd(4, query + 32 * part, 2 * dim);
        _tile_loadd(5, keys, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, keys + 512, 64);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, keys + 1024, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, keys + 1536, 64);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, scores, sizeof s->scores[0]);
    _tile_stored(1, scores + 16, sizeof s->scores[0]);
    _tile_stored(2, scores + 32, sizeof s->scores[0]);
    _tile_stored(3, scores + 48, sizeof s->scores[0]);
}

/* Add the weighted values of the block to the sums of 16 queries. */
ALWAYS void add_by_tiles(struct scratch *s, int64_t query, int64_t dim)
{
    const half *first = s->values, *second = s->values + dim / 16 * 512;
    float *sums = s->sums + query * dim;
    _tile_loadd(4, s->weights[query / TILE][0], 64);
    _tile_loadd(5, s->weights[query / TILE][1], 64);
    for (int64_t part = 0; part < dim / 16; part += 2) {
        _tile_loadd(0, sums + 16 * part, 4 * dim);
        _tile_loadd(1, sums + 16 * part + 16, 4 * dim);
        _tile_loadd(6, first + 512 * part, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, first + 512 * part + 512, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(6, second + 512 * part, 64);
        _tile_dpbf16ps(0, 5, 6);
        _tile_loadd(7, second + 512 * part + 512, 64);
        _tile_dpbf16ps(1, 5, 7);
        _tile_stored(0, sums + 16 * part, 4 * dim);
        _tile_stored(1, sums + 16 * part + 16, 4 * dim);
    }
}
#endif

/* -- by either ---------------------------------------------------------------------------------------------------- */

/* Scores of all queries with the block. */
static void score(struct scratch *s, int64_t queries, int64_t dim, int64_t way)
{
#ifdef __AMX_BF16__
    if (way == TILES) {
        for (int64_t query = 0; query < queries; query += TILE)
            score_by_tiles(s, query, dim);
        return;
    }
#endif
    (void)way;
    for (int64_t query = 0; query < queries; query += FEW)
        score_by_vectors(s, query, dim);
}

/* Add the weighted values of the block to the sums of all queries. */
static void add_values(struct scratch *s, int64_t queries, int64_t dim, int64_t way)
{
#ifdef __AMX_BF16__
    if (way == TILES) {
        for (int64_t query = 0; query < queries; query += TILE)
            add_by_tiles(s, query, dim);
        return;
    }
#endif
    (void)way;
    for (int64_t query = 0; query < queries; query += FEW)
        add_by_vectors(s, query, dim);
}

static void merge_row(const struct attention *a, int64_t row, int64_t kv_head)
{
    const int64_t dim = a->dim, heads = a->kv_heads * a->group;
    const int32_t begin = row ? a->ends[row - 1] : 0, end = a->ends[row];
    for (int64_t head = kv_head * a->group; head < (kv_head + 1) * a->group; head++) {
        float most = a->sinks ? a->sinks[head] * LOG2_E : LEAST, divisor = a->sinks ? 1 : 0;
        const float sink = most;
        __m512 sums[MOST_DIM / 16];
        for (int32_t i = begin; i < end; i++)
            most = a->levels[2 * (a->places[i] + head)] > most ? a->levels[2 * (a->places[i] + head)] : most;
        for (int64_t part = 0; part < dim / 16; part++)
            sums[part] = _mm512_setzero_ps();
        divisor *= _mm512_cvtss_f32(power(_mm512_set1_ps(sink - most)));
        for (int32_t i = begin; i < end; i++) {
            const int64_t place = a->places[i] + head;
            const __m512 weight = power(_mm512_set1_ps(a->levels[2 * place] - most));
            divisor += _mm512_cvtss_f32(weight) * a->levels[2 * place + 1];
            for (int64_t part = 0; part < dim / 16; part++)
                sums[part] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(a->values + place * dim + 16 * part), sums[part]);
        }
        for (int64_t part = 0; part < dim / 16; part++)
            narrow(a->output + (row * heads + head) * dim + 16 * part,
                   _mm512_div_ps(sums[part], _mm512_set1_ps(divisor)));
    }
}

static void finish(const struct attention *a, const struct piece *piece, int64_t kv_head, const struct scratch *s)
{
    const int64_t dim = a->dim, group = a->group, heads = a->kv_heads * group;
    for (int64_t row = piece->row_begin; row < piece->row_end; row++)
        for (int64_t i = 0; i < group; i++) {
            const int64_t query = (row - piece->row_begin) * group + i, head = kv_head * group + i;
            float divisor = _mm512_reduce_add_ps(_mm512_load_ps(s->divisors[query]));
            const float *sums = s->sums + query * dim;
            if (piece->part < 0) {
                half *output = a->output + (row * heads + head) * dim;
                if (a->sinks) /* of infinite weight where it is far above all scores: the output is then 0 */
                    divisor += _mm512_cvtss_f32(power(_mm512_set1_ps(a->sinks[head] * LOG2_E - s->maxima[query])));
                for (int64_t at = 0; at < dim; at += 16)
                    narrow(output + at, _mm512_div_ps(_mm512_load_ps(sums + at), _mm512_set1_ps(divisor)));
                continue;
            }
            const int64_t place = piece->part + (row - piece->row_begin) * heads + head;
            memcpy(a->values + place * dim, sums, sizeof(float) * dim);
            a->levels[2 * place] = s->maxima[query];
            a->levels[2 * place + 1] = divisor;
        }
    if (piece->part >= 0)
        for (int64_t row = piece->row_begin; row < piece->row_end; row++)
            if (__atomic_sub_fetch(a->left + row * a->kv_heads + kv_head, 1, __ATOMIC_ACQ_REL) == 0)
                merge_row(a, row, kv_head);
}

/* How many of a block's `count` keys are too old for each query; whether any query sees any of them. */
static int below(const struct attention *a, const struct piece *piece, int64_t from, int64_t count, int32_t *unseen,
                 int *whole)
{
    int some = 0;
    int64_t query = 0;
    for (int64_t row = piece->row_begin; row < piece->row_end; row++) {
        const int64_t before = a->floors[row] - piece->position - from;
        some |= before < count;
        *whole &= before <= 0;
        for (int64_t i = 0; i < a->group; i++)
            unseen[query++] = before < 0 ? 0 : before < KEYS ? before : KEYS;
    }
    while (query % TILE)
        unseen[query++] = 0;
    return some;
}

static void attend(const struct attention *a, const struct piece *piece, int64_t kv_head, struct scratch *s)
{
    const int64_t dim = a->dim, group = a->group, queries = (piece->row_end - piece->row_begin) * group;
    const int64_t padded = (queries + TILE - 1) / TILE * TILE;
    const float scale = (a->cap ? 1 : a->scale) * LOG2_E; /* scores are exponents of 2 */
    for (int64_t row = piece->row_begin, query = 0; row < piece->row_end; row++)
        for (int64_t i = 0; i < group; i++, query++) {
            const int64_t head = kv_head * group + i;
            const half *source = a->query + row * a->query_strides[0] + head * a->query_strides[1];
            memcpy(s->query + query * dim, source, sizeof(half) * dim);
        }
    for (int64_t query = 0; query < padded; query++)
        s->maxima[query] = LEAST;
    memset(s->query + queries * dim, 0, sizeof(half) * dim * (padded - queries));
    memset(s->sums, 0, sizeof(float) * dim * padded);
    memset(s->divisors, 0, sizeof s->divisors[0] * padded);
    for (int64_t from = 0; from < piece->keys; from += KEYS) {
        int32_t seen[MOST_QUERIES], unseen[MOST_QUERIES];
        const int64_t least = piece->row_begin + piece->seen, left = piece->keys - from;
        int whole = 1; /* whether all see the block's first key */
        if (a->floors && !below(a, piece, from, left < KEYS ? left : KEYS, unseen, &whole))
            continue;
        lay_out(a, piece, kv_head, from, s);
        /* Step by step for all queries: what one step writes is read some time later, when it is there. */
        score(s, queries, dim, a->way);
        for (int64_t query = 0; a->cap && query < queries; query += TILE)
            limit(s, query, a->scale, a->cap);
        const int all = left >= KEYS && least - from >= KEYS && whole;
        for (int64_t query = 0, row = 0, i = 0; !all && query < padded; query++) {
            seen[query] = least + row < piece->keys ? least + row - from : left;
            if (++i == group)
                i = 0, row++;
        }
        for (int64_t query = 0; query < queries; query += TILE)
            if (all)
                weigh(s, query, NULL, NULL, dim, scale);
            else if (whole)
                weigh(s, query, seen + query, NULL, dim, scale);
            else
                weigh(s, query, seen + query, unseen + query, dim, scale);
        add_values(s, queries, dim, a->way);
    }
    finish(a, piece, kv_head, s);
}

static void attend_some(void *data, int64_t begin, int64_t end)
{
    static _Thread_local struct scratch scratch;
    const struct attention *a = data;
#ifdef __AMX_BF16__
    struct shapes before, shapes;
    if (a->way == TILES) {
        _tile_storeconfig(&before);
        memset(&shapes, 0, sizeof shapes);
        shapes.palette = 1;
        for (int tile = 0; tile < 8; tile++) {
            shapes.bytes[tile] = 64;
            shapes.rows[tile] = TILE;
        }
        _tile_loadconfig(&shapes);
    }
#endif
    for (int64_t i = begin; i < end; i++)
        attend(a, a->pieces + i / a->kv_heads, i % a->kv_heads, &scratch);
#ifdef __AMX_BF16__
    if (a->way == TILES)
        restore_shapes(&before);
#endif
}

void tree_attention(struct attention *a)
{
    for (int64_t row = 0; row < a->rows; row++)
        for (int64_t head = 0; head < a->kv_heads; head++)
            a->left[row * a->kv_heads + head] = a->ends[row] - (row ? a->ends[row - 1] : 0);
    one_by_one(&a->pool, attend_some, a, a->count * a->kv_heads);
}
