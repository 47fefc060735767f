"""A KV cache of 8-bit floats: greedy text is that of `transformers` with keys and values rounded in the same way."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.cli import read
from engine.core import Core
from engine.errors import LoadError
from engine.model.backends import choose
from engine.model.cache_scales import HEADROOM, choose_scales
from engine.model.model import Model
from engine.server.process import build_core
from engine.settings import Settings
from kernels.kv_store.reference import LARGEST, Scales, rounded
from kernels.tree_attention.heads import Heads
from tests.engine.conftest import make_weights
from tests.engine.speculate.test_speculator import Oracle
from tests.engine.test_greedy import greedy, prompts
from tests.engine.test_windows import made

EIGHT = torch.float8_e4m3fn
FEW = 0.02  # standard deviations of the logits: float32's rounding may take a key to the next number of 8 bits


def shortfalls(texts: list[list[int]], prompt: int, weights: Any, scales: tuple[Scales, ...] | None) -> Tensor:
    """How far each chosen token's logit is below the best of `transformers`, in standard deviations, with keys and
    values rounded as a cache with these scales does.
    """
    home: Any = sys.modules[type(weights).__module__]
    original = home.eager_attention_forward

    def rounding(module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> Any:
        if scales is not None:
            own = scales[module.layer_idx]
            key, value = (rounded(x, EIGHT, scale).float() * scale for x, scale in ((key, own.key), (value, own.value)))
        return original(module, query, key, value, *rest, **more)

    weights.set_attn_implementation("eager")
    found = []
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(home, "eager_attention_forward", rounding)
        for text in texts:
            logits = weights(torch.tensor([text[:-1]])).logits[0, prompt - 1 :]
            chosen = logits.gather(1, torch.tensor(text[prompt:])[:, None])[:, 0]
            found.append((logits.amax(dim=1) - chosen) / logits.std())
    return torch.cat(found)


@pytest.mark.parametrize("name", ["llama", "gemma2-capped", "gpt-oss-sinks"])
def test_over_a_tree_preempted_with_drafts(make_core: Callable[..., Core], name: str):
    """Prompts of several levels in chunks, guesses that are right and wrong, and a cache too small for all."""
    model = make_weights("Llama") if name == "llama" else made(name)
    texts = [prompt[:30] for prompt in prompts(6, 16, 20, seed=5)]
    texts = [prompt + [5 + at] * (30 - len(prompt)) for at, prompt in enumerate(texts)]
    roomy = make_core(other=model, cache="fp8_e4m3", prefill_chunk=19)
    assert roomy.model.cache.dtype == EIGHT
    known = [greedy(prompt, 30) for prompt in texts]
    roomy.run(known)
    answers = [request.sequences[0].tokens[30:] for request in known]
    core = make_core(other=model, cache="fp8_e4m3", blocks=18, max_draft=12)
    core.scheduler._typical_output = 0.0  # admit as if answers were short, so that growth must preempt
    coming = {(hash(tuple(prompt)), 0): answer for prompt, answer in zip(texts, answers, strict=True)}
    core.scheduler._drafts._drafter = Oracle(coming, 9, 6, seed=6)
    requests = [greedy(prompt, 30) for prompt in texts]
    core.run(requests)
    core.scheduler.check_integrity()
    counters = core.scheduler.counters
    assert counters.preemptions > 0
    assert 0 < counters.accepted_tokens < counters.drafted_tokens
    for each in (known, requests):
        written = [request.sequences[0].tokens for request in each]
        assert shortfalls(written, 30, model, core.model.scales).amax() < FEW
        if name == "llama":  # in the others' text, little depends on attention
            assert shortfalls(written, 30, model, None).amax() > 2 * FEW  # so rounding shows


def test_batch_invariant(make_core: Callable[..., Core]):
    model = make_weights("Llama")
    core = make_core(other=model, cache="fp8_e4m3", batch_invariant=True)
    requests = [greedy(prompt[:30], 8) for prompt in prompts(3, 30, 5, seed=7)]
    core.run(requests)
    written = [request.sequences[0].tokens for request in requests]
    assert shortfalls(written, 30, model, core.model.scales).amax() < FEW


def test_scales_from_the_trial():
    one = choose_scales([(1.0, LARGEST / HEADROOM), (400.0, 0.01), (0.0, 57.0)], None)
    assert one == (Scales(1.0, 1.0), Scales(8.0, 2.0**-12), Scales(1.0, 2.0))
    for scale, largest in ((8.0, 400.0), (2.0**-12, 0.01)):
        assert LARGEST / 2 < largest * HEADROOM / scale <= LARGEST


def put_scales(folder: Path, target: Path, scales: dict[str, float]) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors") | {name: torch.tensor(each) for name, each in scales.items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_scales_of_the_checkpoint(model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    names = {f"model.layers.{n}.self_attn.{kind}_scale": 0.3 + n for n in (0, 1) for kind in "kv"}
    caplog.set_level(logging.INFO)
    whole = put_scales(model_folder, tmp_path / "whole", names)
    assert Model.load(str(whole), cache="fp8_e4m3").scales == (Scales(0.5, 0.5), Scales(2.0, 2.0))
    assert "the checkpoint's own" in caplog.text
    assert Model.load(str(whole)).scales == ()
    part = put_scales(model_folder, tmp_path / "part", {"model.layers.0.self_attn.attn.k_scale": 1.0})
    measured = Model.load(str(part), cache="fp8_e4m3").scales
    assert measured == Model.load(str(model_folder), cache="fp8_e4m3").scales
    wrong = put_scales(model_folder, tmp_path / "wrong", dict.fromkeys(names, 0.0))
    with pytest.raises(LoadError, match=r"self_attn\.k_scale is 0\.0, which is no scale"):
        Model.load(str(wrong), cache="fp8_e4m3")


def test_the_same_memory_holds_more_tokens(model_folder: Path, caplog: pytest.LogCaptureFixture):
    """Four times those of float32."""
    caplog.set_level(logging.INFO)
    settings = read(["--model", str(model_folder), "--cache-memory", "1MiB", "--cache-dtype", "fp8_e4m3"])
    assert settings.cache_dtype == "fp8_e4m3"
    few = build_core(settings.model_copy(update={"cache_dtype": "auto"}))
    many = build_core(settings)
    assert many.scheduler.allocator.count == 4 * few.scheduler.allocator.count
    assert many.model.cache.nbytes == few.model.cache.nbytes == 1 << 20
    assert "holds 8192 tokens in float8_e4m3fn, 1.0 MiB" in caplog.text
    assert "holds 2048 tokens in float32, 1.0 MiB" in caplog.text
    assert Settings().cache_dtype == "auto"


def test_a_gpu_without_such_numbers_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    heads = Heads(4, 2, 16, 1)
    with pytest.raises(LoadError, match=r"compute capability 8\.9 or more .*leave --cache-dtype out"):
        choose("triton", torch.device("cuda"), heads, EIGHT)
    assert choose("torch", torch.device("cuda"), heads, EIGHT).name == "torch"
