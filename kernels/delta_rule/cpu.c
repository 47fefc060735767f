/* The gated delta rule for one token of each text, in one read and one write of its state. See reference.py. */
#include "native.h"

enum {
    WIDE = 8,      /* vectors of values that are advanced together: what two passes need fits into registers */
    LONGEST = 512, /* numbers of a key, see native.py */
};

struct delta {
    const float *query, *key;  /* [texts, key_heads, width] without gaps, like all below */
    const float *value;        /* [texts, heads, values] */
    const float *decay, *beta; /* [texts, heads], the first with `width` behind it if `each` */
    const int64_t *slots;      /* [texts], negative: nobody's */
    float *states;             /* [slots, heads, width, values] */
    float *out;                /* [texts, heads, values] */
    int64_t texts, heads, key_heads, width, values, each, normed, kept;
    struct pool pool;
};

static const float EPS = 1e-6f;

/* `x` times a factor, and 1 over its length where it is normed. */
ALWAYS void scaled(float *y, const float *x, int64_t size, int64_t normed, float factor)
{
    if (normed) {
        __m512 squares = _mm512_setzero_ps();
        for (int64_t at = 0; at < size; at += 16) {
            const __m512 v = _mm512_maskz_loadu_ps(lanes(at, size), x + at);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        factor /= __builtin_sqrtf(_mm512_reduce_add_ps(squares) + EPS);
    }
    for (int64_t at = 0; at < size; at += 16) {
        const __mmask16 mask = lanes(at, size);
        const __m512 v = _mm512_maskz_loadu_ps(mask, x + at);
        _mm512_mask_storeu_ps(y + at, mask, _mm512_mul_ps(v, _mm512_set1_ps(factor)));
    }
}

/* Of one head of one text. */
struct head {
    float query[LONGEST], key[LONGEST], decay[LONGEST], beta;
    int64_t width, values, kept;
};

/* `count` vectors of its values, of which the last may be cut off. Nobody's state is NULL. */
ALWAYS void columns(const struct head *head, float *state, const float *value, float *out, int count, __mmask16 last)
{
    const int64_t width = head->width, values = head->values, kept = head->kept && state;
    __m512 moved[WIDE], read[WIDE];
    for (int i = 0; i < count; i++)
        moved[i] = read[i] = _mm512_setzero_ps();
    for (int64_t row = 0; row < width && state; row++) { /* what the state holds at the key */
        const __m512 weight = _mm512_set1_ps(head->key[row] * head->decay[row]);
        for (int i = 0; i < count; i++) {
            const __m512 v = _mm512_maskz_loadu_ps(i == count - 1 ? last : 0xFFFF, state + row * values + 16 * i);
            moved[i] = _mm512_fmadd_ps(weight, v, moved[i]);
        }
    }
    for (int i = 0; i < count; i++) { /* by what it is moved */
        const __m512 v = _mm512_maskz_loadu_ps(i == count - 1 ? last : 0xFFFF, value + 16 * i);
        moved[i] = _mm512_mul_ps(_mm512_sub_ps(v, moved[i]), _mm512_set1_ps(head->beta));
    }
    for (int64_t row = 0; row < width; row++) {
        const __m512 key = _mm512_set1_ps(head->key[row]), query = _mm512_set1_ps(head->query[row]);
        const __m512 decay = _mm512_set1_ps(head->decay[row]);
        for (int i = 0; i < count; i++) {
            const __mmask16 mask = i == count - 1 ? last : 0xFFFF;
            __m512 v = _mm512_mul_ps(key, moved[i]);
            if (state)
                v = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, state + row * values + 16 * i), decay, v);
            if (kept)
                _mm512_mask_storeu_ps(state + row * values + 16 * i, mask, v);
            read[i] = _mm512_fmadd_ps(query, v, read[i]);
        }
    }
    for (int i = 0; i < count; i++)
        _mm512_mask_storeu_ps(out + 16 * i, i == count - 1 ? last : 0xFFFF, read[i]);
}

static void delta_heads(void *data, int64_t begin, int64_t end)
{
    const struct delta *d = data;
    struct head head = {.width = d->width, .values = d->values, .kept = d->kept};
    for (int64_t at = begin; at < end; at++) { /* heads of texts */
        const int64_t text = at / d->heads, number = at % d->heads;
        const int64_t source = (text * d->key_heads + number / (d->heads / d->key_heads)) * d->width;
        scaled(head.query, d->query + source, d->width, d->normed, 1 / __builtin_sqrtf(d->width));
        scaled(head.key, d->key + source, d->width, d->normed, 1);
        for (int64_t row = 0; row < d->width; row += 16) {
            const __mmask16 mask = lanes(row, d->width);
            const __m512 one = _mm512_set1_ps(d->each ? 0 : d->decay[at]);
            const __m512 g = d->each ? _mm512_maskz_loadu_ps(mask, d->decay + at * d->width + row) : one;
            _mm512_mask_storeu_ps(head.decay + row, mask, exponential(g));
        }
        head.beta = d->beta[at];
        const int64_t slot = d->slots[text];
        for (int64_t first = 0; first < d->values; first += 16 * WIDE) {
            const int64_t left = d->values - first, place = at * d->values + first;
            float *state = d->states + (slot * d->heads + number) * d->width * d->values + first;
            state = slot < 0 ? NULL : state;
            if (left >= 16 * WIDE)
                columns(&head, state, d->value + place, d->out + place, WIDE, 0xFFFF);
            else
                columns(&head, state, d->value + place, d->out + place, (left + 15) / 16, lanes((left - 1) & -16, left));
        }
    }
}

void delta_rule(struct delta *delta)
{
    const int64_t count = delta->texts * delta->heads;
    in_parallel(&delta->pool, delta_heads, delta, count, count * delta->width * delta->values > 1 << 15);
}
