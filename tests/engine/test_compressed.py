"""Layers that see a window, and entries for several tokens each behind it: the engine around them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.choices import WeightNumbers
from engine.core import Core
from engine.errors import LoadError, UnsupportedModelError
from engine.model import compressors
from engine.model.cache_shape import CacheSize
from engine.model.entries import Closed, Rate, Rows
from engine.model.model import Model
from engine.schedule.limits import Limits
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.reach import FULL, Reach
from tests.engine.conftest import copy_into_engine
from tests.engine.kinds.attempt import Guesses, answers
from tests.engine.kinds.tiny import COMPRESSED, SIZES, config_of, make
from tests.engine.model.test_dequantize import GROUP, fp4_powers, fp8_powers, same
from tests.engine.test_greedy import SHARING, check, check_at_once, greedy, prompts

WINDOW = 16  # tokens, as many as the largest entry is made of


def weights_of(**changes: Any) -> Any:
    """Three layers: with a window alone, with entries for every 4 tokens, and for every 16."""
    config = config_of("deepseek_v4")
    kinds = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
    sizes = {name: SIZES[name] for name in SIZES if hasattr(config, name) and name != "attention_chunk_size"}
    sizes |= COMPRESSED | {"num_hidden_layers": 3, "layer_types": kinds, "mlp_layer_types": ["hash_moe", "moe", "moe"]}
    return make(type(config)(**sizes | {"sliding_window": WINDOW} | changes))


@pytest.fixture(scope="module")
def deepseek() -> Any:
    return weights_of()


def mixed() -> list[list[int]]:
    """Prompts over two trees: of 1 to 9 tokens, without entries or with few; and of 62 to 80."""
    return [*prompts(4, 2, 6, seed=1), *prompts(4, 40, 20, seed=2)]


def spoil(core: Core) -> None:
    """Put numbers where none are yet that change every answer."""
    for part in core.model.entries.entries.values():  # of which some are read and masked
        part.fill_(100.0)
    for part in core.model.entries.numbers.values():
        part.fill_(torch.nan)


@SHARING
@pytest.mark.parametrize("chunk", [1, 19])
def test_greedy_text_over_trees(make_core: Callable[..., Core], deepseek: Any, chunk: int, cost: int):
    core = make_core(other=deepseek, cost=cost, prefill_chunk=chunk, windows=(24,))
    assert core.model.reaches == (Reach(window=WINDOW),)
    assert core.model.rates == (Rate(4, 8), Rate(16, 16))
    check(core, deepseek, mixed(), 14)


@pytest.mark.parametrize("block_size", [1, 6, 16, 32])
def test_block_sizes(make_core: Callable[..., Core], deepseek: Any, block_size: int):
    """Entries end in each block, in some blocks, or in several places of one."""
    core = make_core(blocks=900, other=deepseek, block_size=block_size, prefill_chunk=19)
    check(core, deepseek, mixed(), 8)
    assert core.model.cache_bytes == core.model.shape.memory(
        CacheSize(900, tuple(pool.count for pool in core.scheduler.windows.pools)), block_size
    )


def test_a_context_no_longer_than_the_window(deepseek: Any, tokenizer: Tokenizer, tmp_path: Path):
    """All tokens are kept, and what entries are made of with them."""
    deepseek.save_pretrained(tmp_path)
    model = Model.load(str(tmp_path), "float32", longest=WINDOW)
    assert model.reaches == (FULL,)
    core = Core(model, tokenizer, 60, Limits(block_size=8, prefill_chunk=3))
    spoil(core)
    text = prompts(1, 11, 1, seed=4)[0][:11]
    for prompt in (text, [*text[:5], 7, 8], [*text[:6], 9]):
        check(core, deepseek, [prompt], 4)
    assert core.scheduler.counters.cached_tokens == 5 + 6


@pytest.mark.parametrize("block_size", [8, 32])
def test_branches_within_a_block_take_the_entries_along(make_core: Callable[..., Core], deepseek: Any, block_size: int):
    """The second request continues the first within a block, which is copied with an entry of each rate, and within
    a window of both.
    """
    core = make_core(other=deepseek, block_size=block_size)
    spoil(core)
    text = prompts(1, 60, 4, seed=3)[0]
    for prompt in (text[:62], [*text[:54], 5, 6, 7]):
        before = core.scheduler.counters.computed_tokens
        check(core, deepseek, [prompt], 12)
    assert core.scheduler.counters.computed_tokens - before == 3


def test_wrong_guesses_close_entries_that_are_made_anew(make_core: Callable[..., Core], deepseek: Any):
    """Beside growth that preempts."""
    texts = prompts(5, 34, 16, seed=5)
    wanted = answers(make_core(300, deepseek, prefill_chunk=19), texts)
    core = make_core(16, deepseek, prefill_chunk=19, windows=(14,), max_draft=8)
    core.scheduler._typical_output = 0.0
    core.scheduler._drafts._drafter = Guesses(texts, wanted)
    assert answers(core, texts) == wanted
    counters = core.scheduler.counters
    assert counters.accepted_tokens > 0 < counters.preemptions
    assert counters.drafted_tokens > counters.accepted_tokens


def test_scrubbed_slots_hold_nothing(make_core: Callable[..., Core], deepseek: Any):
    core = make_core(other=deepseek, windows=(20,))
    parts = {
        **core.model.entries.entries,
        **{(*key, "numbers"): each for key, each in core.model.entries.numbers.items()},
    }
    assert len(parts) == 6
    for part in parts.values():
        part.fill_(torch.nan)
    core.model.scrub([3, 16, 17], [[5]])
    finite = {key: torch.isfinite(each).flatten(1).all(dim=1).nonzero()[:, 0].tolist() for key, each in parts.items()}
    assert finite == {
        (0, "compressor"): [0, 4],
        (0, "indexer"): [0, 4],
        (1, "compressor"): [0, 2],
        (0, "compressor", "numbers"): [5],
        (0, "indexer", "numbers"): [5],
        (1, "compressor", "numbers"): [5],
    }


@pytest.mark.parametrize("cache", ["auto", "fp8"])
def test_checkpoints_in_bfloat16(cache: str, tokenizer: Tokenizer, tmp_path: Path):
    weights = weights_of()
    for parameter in weights.parameters():
        parameter.data.mul_(0.3 if parameter.ndim > 1 else 1.0)
    weights.save_pretrained(tmp_path)
    model = Model.load(str(tmp_path), dtype="bfloat16", cache=cache)
    core = Core(model, tokenizer, 200, Limits(block_size=8, prefill_chunk=19))
    assert {each.dtype for each in core.model.entries.entries.values()} == {torch.bfloat16}
    core.run(requests := [greedy(text, 6) for text in mixed()])
    core.scheduler.check_integrity()
    assert all(request.sequences[0].finish_reason == "length" for request in requests)


def test_windows_that_are_shorter_than_entries_are_refused():
    with pytest.raises(UnsupportedModelError, match="they are made of 16 tokens"):
        copy_into_engine(weights_of(sliding_window=15))


def test_batch_invariance_is_refused(make_core: Callable[..., Core], deepseek: Any):
    with pytest.raises(LoadError, match="not kept by layers with compressed entries"):
        make_core(other=deepseek, batch_invariant=True)


@pytest.mark.parametrize("part", ["choose", "behind"])
def test_a_compressor_that_computes_something_else_is_refused(part: str, monkeypatch: pytest.MonkeyPatch):
    """The trial at load chooses fewer entries than it has, so that a wrong choice shows."""
    weights = weights_of(mlp_layer_types=["moe"] * 3)
    if part == "choose":
        choose = compressors._Cache.choose
        wrong = lambda cache, query, weights, scale: choose(cache, -query, weights, scale)  # noqa: E731
        monkeypatch.setattr(compressors._Cache, "choose", wrong)
    else:
        monkeypatch.setattr(compressors, "see_behind", lambda behind: None)
    with pytest.raises(UnsupportedModelError):
        copy_into_engine(weights)


def test_what_a_step_closes():
    """A text of seven tokens with four new ones in blocks of two, and one without entries."""
    table = torch.arange(10, 14).numpy()
    found = Closed.of(
        Rate(3, 6), [Rows(0, 1, 2, table, table), Rows(1, 4, 7, table, table - 10)], 2, torch.device("cpu")
    )
    assert found.read.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert (found.firsts.tolist(), found.entries.tolist()) == ([3], [25])
    (texts,) = found.texts
    assert texts.rows.tolist() == [[1, 2, 3, 4]]
    assert texts.positions.tolist() == [[0, 0, 1, 1]]
    assert texts.blocks.tolist() == [[22, 25]]


def test_many_at_once(make_core: Callable[..., Core], deepseek: Any):
    core = make_core(blocks=1200, other=deepseek, prefill_chunk=150)
    check_at_once(core, deepseek, prompts(40, 30, 20, seed=6), 6)


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_linears_that_multiply_in_groups_stay_plain(deepseek: Any, how: str, tokenizer: Tokenizer, tmp_path: Path):
    deepseek.save_pretrained(tmp_path)
    core = Core(Model.load(str(tmp_path), "float32", weights=WeightNumbers(how)), tokenizer, 60, Limits(block_size=8))
    kinds = {name.rpartition(".")[2]: type(module).__name__ for name, module in core.model._inner.named_modules()}
    assert (kinds["o_a_proj"], kinds["o_b_proj"]) == ("DeepseekV4GroupedLinear", "QuantizedLinear")
    core.run(requests := [greedy(text, 6) for text in mixed()[-2:]])
    assert all(request.sequences[0].finish_reason == "length" for request in requests)


@pytest.mark.parametrize("way", ["dequantized", "native"])
def test_a_checkpoint_as_it_is_published(way: str, tmp_path: Path):
    """With names of its own, linears in FP8, experts in FP4, and compressors and the rest plain."""
    deepseek, twin = weights_of(sliding_window=64), tmp_path / "plain"
    for folder in (tmp_path, twin):
        deepseek.save_pretrained(folder)
    plain, found = load_file(twin / "model.safetensors"), {}
    for name, tensor in list(plain.items()):
        own = name.removeprefix("model.").replace("embed_tokens", "embed")
        small = ".experts." in name or ".shared_experts." in name or re.search(r"\.(wq_a|wq_b|wkv|wo_a|wo_b)\.", name)
        if not small or ".compressor." in name:
            found[own] = tensor
            continue
        parts, plain[name] = (fp4_powers if ".experts." in name else fp8_powers)(tensor)
        found |= {own.removesuffix("weight") + end: part.contiguous() for end, part in parts.items()}
    save_file(found, tmp_path / "model.safetensors", metadata={"format": "pt"})
    save_file(plain, twin / "model.safetensors", metadata={"format": "pt"})
    said = {"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [GROUP, GROUP]}
    config = json.loads((tmp_path / "config.json").read_text()) | {"expert_dtype": "fp4", "quantization_config": said}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = Model.load(str(tmp_path), "float32", weights=WeightNumbers(way=way))
    wanted = type(deepseek).from_pretrained(twin, attn_implementation="eager").eval()
    same(model, wanted)
