"""How memory is split between layers that keep all tokens and those that keep a window's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from engine.model.cache_shape import CacheShape, Needs
from engine.model.entries import PartShape, Rate
from kernels.tree_attention.reach import Reach

# layers, key-value heads, numbers of a head, query heads; window, and layers that have it; longest text
GPT_OSS_20B = (24, 8, 64, 64), 128, 12, 131_072
GEMMA3_27B = (62, 16, 128, 32), 1024, 52, 131_072
GEMMA2_27B = (46, 16, 128, 32), 4096, 23, 8192
OLMO3_32B = (64, 8, 128, 40), 4096, 48, 65_536
MISTRAL_7B_V01 = (32, 8, 128, 32), 4096, 32, 32_768


def shapes(sizes: tuple[int, int, int, int], window: int, layers: int, longest: int) -> tuple[CacheShape, Needs]:
    """In bfloat16."""
    every, kv_heads, dim, heads = sizes
    windows = ((Reach(window=window), layers),) if window else ()
    return CacheShape(every, kv_heads, dim, 2, heads, windows=windows), Needs(256, 512, 16, longest)


def texts_that_fit(sizes: tuple[int, int, int, int], window: int, layers: int, longest: int, length: int) -> int:
    """Of so many tokens, each for itself, in 20 GiB."""
    shape, needs = shapes(sizes, window, layers, longest)
    memory = 20 << 30
    found = shape.fitting(memory, needs, 256 * (longest + 16) // 16)
    assert 0.999 * memory < shape.memory(found, 16) <= memory
    blocks = length // 16 + 1
    places = [
        count // min(needs.of_row(reach), blocks)
        for count, (reach, _) in zip(found.windows, shape.windows, strict=False)
    ]
    return min(found.blocks // blocks, *places) if places else found.blocks // blocks


@pytest.mark.parametrize(
    ("model", "length", "before", "now"),
    [
        (GPT_OSS_20B, 4096, 106, 203),
        (GPT_OSS_20B, 16_384, 26, 50),
        (GEMMA3_27B, 4096, 10, 22),
        (GEMMA3_27B, 16_384, 2, 5),
        (GEMMA2_27B, 4096, 13, 13),
        (OLMO3_32B, 4096, 19, 17),
        (OLMO3_32B, 16_384, 4, 7),
        (MISTRAL_7B_V01, 16_384, 9, 39),
    ],
)
def test_more_texts_fit_where_layers_keep_a_window(model, length: int, before: int, now: int):
    sizes, *_, longest = model
    assert texts_that_fit(sizes, 0, 0, longest, length) == before
    assert texts_that_fit(*model, length) == now


def test_bytes_of_a_token_by_kind_of_layer():
    shape, _ = shapes(*GEMMA3_27B)
    assert (shape.token_bytes, shape.block_bytes(1), shape.window_bytes) == (507_904, 81_920, [425_984])


def test_bytes_of_deepseek_v4():
    """In `transformers`' default configuration: what is kept for good of a token, and of a running text's window."""
    config, half = AutoConfig.for_model("deepseek_v4"), (torch.bfloat16, torch.bfloat16)
    sparse, heavy = (
        config.layer_types.count(f"{kind}_attention") for kind in ("compressed_sparse", "heavily_compressed")
    )
    few, many = Rate(4, 8), Rate(128, 128)
    parts = [
        *[PartShape((0, "compressor"), few, 2 * config.head_dim, config.head_dim, half)] * sparse,
        *[PartShape((0, "indexer"), few, 2 * config.index_head_dim, config.index_head_dim, half)] * sparse,
        *[PartShape((0, "compressor"), many, config.head_dim, config.head_dim, half)] * heavy,
    ]
    windows = ((Reach(window=config.sliding_window), config.num_hidden_layers),)
    shape = CacheShape(sparse + heavy, 1, config.head_dim, 2, 64, windows=windows, parts=tuple(parts))
    own = sum(part.entry_bytes / part.rate.size for part in parts)
    assert (shape.block_bytes(16) / 16, own) == (7872, 6584)
    needs = Needs(256, 512, 16, config.max_position_embeddings)
    kept = needs.of_row(windows[0][0]) * 16 * shape.window_bytes[0]
    window = config.sliding_window * 43 * config.head_dim * 2
    unclosed = sum(part.rate.read * part.token_bytes for part in parts)
    assert (kept, window + unclosed) == (38_010_880, 12_484_608)
    memory = 20 << 30
    assert 0.999 * memory < shape.memory(shape.fitting(memory, needs, 1 << 20), 16) <= memory


@given(st.integers(0, 1 << 34), st.integers(1, 600), st.integers(1, 4096), st.integers(0, 24), st.integers(1, 9000))
def test_a_cache_fits_its_memory_and_one_sequence_fits_it(
    memory: int, rows: int, window: int, layers: int, longest: int
):
    windows = ((Reach(window=window), layers), (Reach(chunk=64), 24 - layers))
    shape = CacheShape(25, 2, 64, 2, 8, windows=tuple(each for each in windows if each[1]))
    needs = Needs(rows, 512, 16, longest)
    found = shape.fitting(memory, needs, rows * (longest + 16) // 16)
    assert shape.memory(found, 16) <= memory
    assert shape.places(found.blocks, needs, found.windows) == found.windows
