/* RMS norm of bfloat16 rows, with the residual addition before it where there is one. See reference.py. */
#include "native.h"

struct norm {
    const half *x, *residual; /* rows of `size`; `residual`: NULL, or rows without gaps */
    half *total, *y;          /* `total`: NULL, or the sum; rows without gaps */
    const half *weight;
    int64_t rows, inner, outer_stride, inner_stride, size; /* of `x`, as kernels/rows.py says */
    float eps;
    struct pool pool;
};

static void norm_rows(void *data, int64_t begin, int64_t end)
{
    const struct norm *norm = data;
    const int64_t size = norm->size;
    for (int64_t row = begin; row < end; row++) {
        const half *x = norm->x + row / norm->inner * norm->outer_stride + row % norm->inner * norm->inner_stride;
        __m512 squares = _mm512_setzero_ps();
        if (norm->residual) {
            const half *residual = norm->residual + row * size;
            half *total = norm->total + row * size;
            for (int64_t at = 0; at < size; at += 16) {
                const __mmask16 mask = lanes(at, size);
                narrow_some(total + at, mask, _mm512_add_ps(widen_some(x + at, mask), widen_some(residual + at, mask)));
                const __m512 rounded = widen_some(total + at, mask);
                squares = _mm512_fmadd_ps(rounded, rounded, squares);
            }
            x = total;
        } else
            for (int64_t at = 0; at < size; at += 16) {
                const __m512 v = widen_some(x + at, lanes(at, size));
                squares = _mm512_fmadd_ps(v, v, squares);
            }
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(squares) / size + norm->eps);
        const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1), _mm512_sqrt_ps(mean));
        for (int64_t at = 0; at < size; at += 16) {
            const __mmask16 mask = lanes(at, size);
            const __m512 normed = _mm512_mul_ps(widen_some(x + at, mask), scale);
            const __m512 weight = widen_some(norm->weight + at, mask);
            narrow_some(norm->y + row * size + at, mask, _mm512_mul_ps(normed, weight));
        }
    }
}

void rms_norm(struct norm *norm)
{
    in_parallel(&norm->pool, norm_rows, norm, norm->rows, norm->rows * norm->size > 1 << 15);
}
