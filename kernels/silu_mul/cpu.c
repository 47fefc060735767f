/* SwiGLU's gate of bfloat16 rows. See reference.py. */
#include "native.h"

struct gate {
    const half *x; /* [rows, 2 * size] */
    half *y;       /* [rows, size] */
    int64_t rows, stride, size;
    struct pool pool;
};

enum { PART = 512 }; /* numbers that are computed together */

static void gate_parts(void *data, int64_t begin, int64_t end)
{
    const struct gate *gate = data;
    const int64_t size = gate->size, parts = (size + PART - 1) / PART;
    for (int64_t part = begin; part < end; part++) {
        const half *x = gate->x + part / parts * gate->stride;
        half *y = gate->y + part / parts * size;
        const int64_t first = part % parts * PART, last = first + PART < size ? first + PART : size;
        for (int64_t at = first; at < last; at += 16) {
            const __mmask16 mask = lanes(at, last);
            const __m512 v = widen_some(x + at, mask), up = widen_some(x + size + at, mask);
            const __m512 below = _mm512_add_ps(exponential(_mm512_sub_ps(_mm512_setzero_ps(), v)), _mm512_set1_ps(1));
            narrow_some(y + at, mask, _mm512_mul_ps(_mm512_div_ps(v, below), up));
        }
    }
}

void silu_mul(struct gate *gate)
{
    const int64_t parts = (gate->size + PART - 1) / PART;
    in_parallel(&gate->pool, gate_parts, gate, gate->rows * parts, gate->rows * gate->size > 1 << 15);
}
