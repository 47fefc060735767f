/* What all kernels in C share. They are compiled by native.py, for processors with AVX-512 BF16. */
#ifndef TROOP_NATIVE_H
#define TROOP_NATIVE_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

enum { VECTORS = 0, TILES = 1 }; /* ways to multiply: AVX-512's dot products, or AMX */

typedef uint16_t half; /* bfloat16, or float16 where it says so */
typedef void parallel_run(void (*body)(void *), void *data, unsigned threads, unsigned flags);

/* The threads of torch's OpenMP pool; `run` is NULL where there is none. */
struct pool {
    parallel_run *run;
    int64_t threads;
};

/* 16 bfloat16 numbers as float32, and back. */
ALWAYS __m512 widen(const half *x)
{
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16);
}

ALWAYS __m512 widen_some(const half *x, __mmask16 mask)
{
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x)), 16);
}

ALWAYS void narrow(half *y, __m512 x)
{
    _mm256_storeu_si256((void *)y, (__m256i)_mm512_cvtneps_pbh(x));
}

ALWAYS void narrow_some(half *y, __mmask16 mask, __m512 x)
{
    _mm256_mask_storeu_epi16(y, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

/* The lanes that are left of a row, at `at` of `size`. */
ALWAYS __mmask16 lanes(int64_t at, int64_t size)
{
    return size - at >= 16 ? 0xFFFF : (1u << (size - at)) - 1;
}

/* e^x to within 2 units in the last place: 2^n times a polynomial of the rest (Cephes). 0 below -104. */
ALWAYS __m512 exponential(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-105), x); /* NaN stays NaN: the second operand is returned then */
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p0f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e400p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1)));
    return _mm512_scalef_ps(p, n);
}

/* Call body(data, begin, end) for parts of 0..count, by all threads if there is enough work. */
typedef void part_of(void *data, int64_t begin, int64_t end);

struct loop {
    part_of *body;
    void *data;
    int64_t count, chunk, next;
};

static void __attribute__((unused)) loop_thread(void *data)
{
    struct loop *loop = data;
    for (;;) {
        const int64_t begin = __atomic_fetch_add(&loop->next, loop->chunk, __ATOMIC_RELAXED);
        if (begin >= loop->count)
            return;
        loop->body(loop->data, begin, begin + loop->chunk < loop->count ? begin + loop->chunk : loop->count);
    }
}

ALWAYS void in_parallel(const struct pool *pool, part_of *body, void *data, int64_t count, int worth)
{
    if (!pool->run || pool->threads < 2 || !worth || count < 2) {
        body(data, 0, count);
        return;
    }
    /* More parts than threads: some threads may be slow. */
    struct loop loop = {body, data, count, 1 + (count - 1) / (8 * pool->threads), 0};
    pool->run(loop_thread, &loop, pool->threads, 0);
}

/* The same for parts that are long and of different lengths, longest first. */
ALWAYS void one_by_one(const struct pool *pool, part_of *body, void *data, int64_t count)
{
    if (!pool->run || pool->threads < 2 || count < 2) {
        body(data, 0, count);
        return;
    }
    struct loop loop = {body, data, count, 1, 0};
    pool->run(loop_thread, &loop, pool->threads, 0);
}

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>

struct shapes { /* of AMX' tiles, as LDTILECFG takes them */
    uint8_t palette, start, zero[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Code that used this thread before, such as oneDNN, finds its shapes unchanged. */
ALWAYS void restore_shapes(const struct shapes *before)
{
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}

/* Whether this process may use AMX: Linux must be asked for its registers. */
ALWAYS int amx_allowed(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#endif
#endif
