/* Rotary embedding of bfloat16 queries and keys, and the cache's update, in one pass. See reference.py. */
#include "native.h"

struct rope {
    const half *query, *key, *value; /* [heads, tokens, dim] and [kv_heads, tokens, dim], by the strides below */
    const half *cos, *sin;           /* [tokens, rotary] */
    half *rotated;                   /* [tokens, heads, dim] */
    half *key_cache, *value_cache;   /* [kv_heads, slots, dim] */
    const int64_t *slots;            /* [tokens] */
    int64_t tokens, heads, kv_heads, dim, rotary, cached; /* `cached`: slots of a head */
    int64_t query_strides[2], key_strides[2], value_strides[2], table_stride; /* of heads and tokens */
    struct pool pool;
};

ALWAYS void rotate(half *y, const half *x, const half *cos, const half *sin, int64_t rotary, int64_t dim)
{
    const int64_t middle = rotary / 2;
    for (int64_t at = 0; at < middle; at += 16) {
        const __mmask16 mask = lanes(at, middle);
        const __m512 first = widen_some(x + at, mask), second = widen_some(x + middle + at, mask);
        const __m512 one = _mm512_mul_ps(first, widen_some(cos + at, mask));
        const __m512 other = _mm512_mul_ps(second, widen_some(cos + middle + at, mask));
        narrow_some(y + at, mask, _mm512_fnmadd_ps(second, widen_some(sin + at, mask), one));
        narrow_some(y + middle + at, mask, _mm512_fmadd_ps(first, widen_some(sin + middle + at, mask), other));
    }
    memcpy(y + rotary, x + rotary, sizeof(half) * (dim - rotary));
}

static void rope_tokens(void *data, int64_t begin, int64_t end)
{
    const struct rope *r = data;
    const int64_t dim = r->dim;
    for (int64_t token = begin; token < end; token++) {
        const half *cos = r->cos + token * r->table_stride, *sin = r->sin + token * r->table_stride;
        for (int64_t head = 0; head < r->heads; head++) {
            const half *x = r->query + head * r->query_strides[0] + token * r->query_strides[1];
            rotate(r->rotated + (token * r->heads + head) * dim, x, cos, sin, r->rotary, dim);
        }
        for (int64_t head = 0; head < r->kv_heads; head++) {
            const int64_t place = (head * r->cached + r->slots[token]) * dim;
            const half *key = r->key + head * r->key_strides[0] + token * r->key_strides[1];
            const half *value = r->value + head * r->value_strides[0] + token * r->value_strides[1];
            rotate(r->key_cache + place, key, cos, sin, r->rotary, dim);
            memcpy(r->value_cache + place, value, sizeof(half) * dim);
        }
    }
}

void rope_store(struct rope *rope)
{
    in_parallel(&rope->pool, rope_tokens, rope, rope->tokens, rope->tokens * rope->heads * rope->dim > 1 << 15);
}
