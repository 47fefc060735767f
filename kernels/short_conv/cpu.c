/* A short convolution of four taps for one bfloat16 token of each text, in the pool of last inputs. See reference.py. */
#include "native.h"

struct conv {
    const half *x, *weight, *bias; /* [texts, features] without gaps, [features, 4], [features] or NULL */
    const int64_t *slots;          /* [texts], negative: nobody's */
    half *states;                  /* [slots, features, 4], the newest last */
    half *out;                     /* [texts, features] */
    int64_t texts, features, silu, kept; /* features: a multiple of 16 */
    struct pool pool;
};

/* Of 8 features, whose inputs and weights are 64 bits each: the inputs moved on by one, and their products' sums. */
ALWAYS __m256 eight(const struct conv *c, half *state, int64_t at, const half *x)
{
    const __m512i new = _mm512_slli_epi64(_mm512_cvtepu16_epi64(_mm_loadu_si128((const void *)x)), 48);
    const __m512i known = state ? _mm512_loadu_si512(state + 4 * at) : _mm512_setzero_si512();
    const __m512i inputs = _mm512_or_si512(_mm512_srli_epi64(known, 16), new);
    if (state && c->kept)
        _mm512_storeu_si512(state + 4 * at, inputs);
    const __m512i weight = _mm512_loadu_si512(c->weight + 4 * at);
    const __m512 pairs = _mm512_dpbf16_ps(_mm512_setzero_ps(), (__m512bh)inputs, (__m512bh)weight);
    const __m512 sums = _mm512_add_ps(pairs, (__m512)_mm512_srli_epi64((__m512i)pairs, 32));
    return (__m256)_mm512_cvtepi64_epi32((__m512i)sums);
}

static void conv_parts(void *data, int64_t begin, int64_t end)
{
    const struct conv *c = data;
    const int64_t parts = c->features / 16;
    for (int64_t part = begin; part < end; part++) {
        const int64_t text = part / parts, at = part % parts * 16, slot = c->slots[text];
        half *state = slot < 0 ? NULL : c->states + slot * c->features * 4;
        const half *x = c->x + text * c->features + at;
        const __m256 low = eight(c, state, at, x), high = eight(c, state, at + 8, x + 8);
        __m512 v = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
        if (c->bias)
            v = _mm512_add_ps(v, widen(c->bias + at));
        if (c->silu) {
            const __m512 one = _mm512_set1_ps(1);
            v = _mm512_div_ps(v, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), v))));
        }
        narrow(c->out + text * c->features + at, v);
    }
}

void short_conv(struct conv *conv)
{
    const int64_t count = conv->texts * conv->features;
    in_parallel(&conv->pool, conv_parts, conv, count / 16, count > 1 << 16);
}
