/* A selective state space for one token of each text, in one read and one write of its state. See reference.py. */
#include "native.h"

enum {
    ROWS = 8,  /* values that are advanced together: they share loads of the key and the query */
    PART = 64, /* values of a head that one thread takes */
};

struct space {
    const float *amount;      /* [texts, heads, values] without gaps, like all below: the value times the time */
    const float *time, *rate; /* [texts, heads, own], [heads, own, width], or [heads] if `alike` */
    const float *key, *query; /* [texts, groups, width] */
    const int64_t *slots;     /* [texts], negative: nobody's */
    float *states;            /* [slots, heads, values, width] */
    float *out;               /* [texts, heads, values] */
    int64_t texts, heads, groups, values, width, alike, kept;
    struct pool pool;
};

/* Of some values of one head of one text. */
struct rows {
    const float *key, *query, *amount, *time, *rate;
    float *state, *out; /* nobody's state is NULL */
    int64_t width;
};

ALWAYS void advance(const struct rows *r, int count, int alike, int kept)
{
    __m512 read[ROWS];
    const __m512 shared = _mm512_set1_ps(alike ? *r->rate : 0); /* what all decay by */
    for (int i = 0; i < count; i++)
        read[i] = _mm512_setzero_ps();
    for (int64_t at = 0; at < r->width; at += 16) {
        const __mmask16 mask = lanes(at, r->width);
        const __m512 key = _mm512_maskz_loadu_ps(mask, r->key + at), query = _mm512_maskz_loadu_ps(mask, r->query + at);
        for (int i = 0; i < count; i++) {
            __m512 v = _mm512_mul_ps(key, _mm512_set1_ps(r->amount[i]));
            if (r->state) {
                float *state = r->state + i * r->width + at;
                __m512 decay = shared;
                if (!alike) {
                    const __m512 rate = _mm512_maskz_loadu_ps(mask, r->rate + i * r->width + at);
                    decay = exponential(_mm512_mul_ps(rate, _mm512_set1_ps(r->time[i])));
                }
                v = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, state), decay, v);
                if (kept)
                    _mm512_mask_storeu_ps(state, mask, v);
            }
            read[i] = _mm512_fmadd_ps(query, v, read[i]);
        }
    }
    for (int i = 0; i < count; i++)
        r->out[i] = _mm512_reduce_add_ps(read[i]);
}

ALWAYS void advance_part(struct rows r, int64_t count, int alike, int kept)
{
    while (count > 0) {
        const int64_t taken = count >= ROWS ? ROWS : 1;
        if (taken == ROWS)
            advance(&r, ROWS, alike, kept);
        else
            advance(&r, 1, alike, kept);
        r.amount += taken, r.out += taken, count -= taken;
        if (r.state)
            r.state += taken * r.width;
        if (!alike)
            r.time += taken, r.rate += taken * r.width;
    }
}

static void space_parts(void *data, int64_t begin, int64_t end)
{
    const struct space *s = data;
    const int64_t parts = (s->values + PART - 1) / PART;
    for (int64_t at = begin; at < end; at++) {
        const int64_t first = at % parts * PART, head = at / parts % s->heads, text = at / parts / s->heads;
        const int64_t source = (text * s->groups + head / (s->heads / s->groups)) * s->width;
        const int64_t place = (text * s->heads + head) * s->values + first, slot = s->slots[text];
        const int64_t count = s->values - first < PART ? s->values - first : PART;
        struct rows r = {.key = s->key + source, .query = s->query + source, .amount = s->amount + place};
        r.out = s->out + place, r.width = s->width;
        r.state = slot < 0 ? NULL : s->states + ((slot * s->heads + head) * s->values + first) * s->width;
        if (s->alike) {
            float decay[16];
            const __m512 power = _mm512_set1_ps(s->time[text * s->heads + head] * s->rate[head]);
            _mm512_storeu_ps(decay, exponential(power));
            r.rate = decay;
            if (s->kept)
                advance_part(r, count, 1, 1);
            else
                advance_part(r, count, 1, 0);
        } else {
            r.time = s->time + place, r.rate = s->rate + (head * s->values + first) * s->width;
            advance_part(r, count, 0, s->kept != 0);
        }
    }
}

void state_space(struct space *space)
{
    const int64_t count = space->texts * space->heads, parts = (space->values + PART - 1) / PART;
    in_parallel(&space->pool, space_parts, space, count * parts, count * space->values * space->width > 1 << 15);
}
