"""Layers where an indexer chooses the tokens that each token sees: the engine around them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.errors import LoadError, UnsupportedModelError
from engine.model.attention import NAME
from engine.model.backends import SparseWork
from engine.model.indexers import Asked
from engine.model.model import Model, StepInput
from engine.schedule.limits import Limits
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.reach import FULL, Reach
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.kinds.tiny import INDEXED, QWEN4, SIZES, config_of, make
from tests.engine.test_greedy import SHARING, check, check_at_once, greedy, prompts

MOST = 39  # tokens that are chosen: more than some prompts below have, fewer than others
CHANGES: dict[str, Any] = INDEXED | {
    "index_topk": MOST,
    "mlp_layer_types": ["dense"] * 2,
    "max_position_embeddings": 256,
}
SHARED = {"indexer_types": ["full", "shared"]}


@pytest.fixture(scope="module")
def deepseek() -> Any:
    return make_weights("DeepseekV32", attention="eager", **CHANGES)


@pytest.fixture(scope="module", params=["tokens", "blocks"])
def sparse(request: pytest.FixtureRequest, deepseek: Any) -> Any:
    """Weights of a model whose indexers choose tokens, or blocks of four."""
    if request.param == "tokens":
        return deepseek
    return make_weights("Qwen4ExpText", attention="eager", **SIZES | QWEN4 | {"indexer_budget": MOST - 3})


def mixed() -> list[list[int]]:
    """Prompts over two trees: of 26 to 35 tokens, and of 62 to 80."""
    return [*prompts(4, 15, 12, seed=1), *prompts(4, 40, 20, seed=2)]


@SHARING
@pytest.mark.parametrize("chunk", [7, 19, 200])
def test_texts_with_more_tokens_than_are_chosen_beside_shorter_ones(
    make_core: Callable[..., Core], sparse: Any, chunk: int, cost: int
):
    """Some grow beyond what is chosen while they decode; all answers are those of `generate`."""
    core = make_core(other=sparse, cost=cost, prefill_chunk=chunk)
    assert core.model.reaches == (Reach(most=MOST),)
    check(core, sparse, mixed(), 14)


def test_layers_that_see_what_an_earlier_one_chose(make_core: Callable[..., Core]):
    weights = make_weights("GlmMoeDsa", attention="eager", **CHANGES | SHARED)
    core = make_core(other=weights, prefill_chunk=19)
    assert len(core.model.index) == 1
    check(core, weights, mixed(), 14)


def test_branches_within_a_block_take_the_indexers_keys_along(make_core: Callable[..., Core], deepseek: Any):
    """The second request continues the first within a block, which is copied."""
    core = make_core(other=deepseek)
    text = prompts(1, 60, 4, seed=3)[0]
    for prompt in (text[:61], [*text[:59], 5, 6, 7]):
        before = core.scheduler.counters.computed_tokens
        check(core, deepseek, [prompt], 12)
    assert core.scheduler.counters.computed_tokens - before < 8


def test_scrubbed_slots_hold_no_index(make_core: Callable[..., Core], deepseek: Any):
    core = make_core(other=deepseek)
    core.model.index.fill_(torch.nan)
    core.model.scrub([3, 9])
    assert torch.isfinite(core.model.index).all(dim=-1).squeeze().sum(dim=-1).tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["deepseek_v32", "hy_v4", "dots3_note_text", "qwen4_exp_text"])
def test_checkpoints_in_bfloat16(kind: str, tokenizer: Tokenizer, tmp_path: Path):
    """Indexers keep some weights in float32 and read the dtype of others; dots3-note's keys are in float32."""
    weights = make(config_of(kind))
    for parameter in weights.parameters():
        parameter.data.mul_(0.3 if parameter.ndim > 1 else 1.0)
    weights.save_pretrained(tmp_path)
    core = Core(Model.load(str(tmp_path), dtype="bfloat16"), tokenizer, 200, Limits(block_size=8, prefill_chunk=19))
    assert core.model.dtype == torch.bfloat16
    assert core.model.index.dtype == (torch.float32 if kind == "dots3_note_text" else torch.bfloat16)
    core.run(requests := [greedy(text, 6) for text in mixed()])
    core.scheduler.check_integrity()
    assert all(request.sequences[0].finish_reason == "length" for request in requests)


def test_keys_and_values_in_8_bits(make_core: Callable[..., Core], deepseek: Any):
    """The indexer's keys keep their dtype: what is chosen changes only with the numbers of the layer before."""
    texts = mixed()
    core = make_core(other=deepseek, cache="fp8")
    core.run(requests := [greedy(text, 6) for text in texts])
    core.scheduler.check_integrity()
    assert core.model.index.dtype == torch.float32
    assert core.model.shape.index_bytes == 2 * 16 * 4
    again = make_core(other=deepseek, cache="fp8", cost=10**9, prefill_chunk=7)
    again.run(others := [greedy(text, 6) for text in texts])
    agree = [one.sequences[0].tokens == other.sequences[0].tokens for one, other in zip(requests, others, strict=True)]
    assert sum(agree) > len(agree) // 2


def test_a_context_of_no_more_tokens_than_are_chosen_is_plain(sparse: Any):
    twin = type(sparse)._from_config(copy.deepcopy(sparse.config), attn_implementation=NAME)
    twin.load_state_dict(sparse.state_dict())
    assert Model(twin, longest=MOST).reaches == (FULL,)


def test_only_longer_texts_are_sparse_work(sparse: Any, make_core: Callable[..., Core]):
    """Texts up to what is chosen share their nodes as ever, on rows of their own."""
    core = make_core(other=sparse, prefill_chunk=500)
    forward, seen = core.model.forward, set()

    def look(step: StepInput, out: torch.Tensor | None = None) -> torch.Tensor:
        work = step.works[0]
        if isinstance(work, SparseWork):
            sparse = torch.cat([texts.rows.flatten() for texts in work.texts])
            assert torch.cat([sparse, work.rows]).sort().values.tolist() == list(range(len(step.tokens)))
            assert all((texts.positions[:, -1] >= MOST).all() for texts in work.texts)
            assert (step.positions[work.rows] < MOST).all()
        seen.add((isinstance(work, SparseWork), getattr(work, "plain", None) is not None))
        return forward(step, out)

    core.model.forward = look  # type: ignore[method-assign]
    core.run([greedy(text, 14) for text in [*mixed(), [5] * 10]])
    assert (True, True) in seen


def test_batch_invariance_is_refused_beyond_what_is_chosen(make_core: Callable[..., Core], sparse: Any):
    with pytest.raises(LoadError, match=f"limit the context to the {MOST} that they choose"):
        make_core(other=sparse, batch_invariant=True)


def test_an_indexer_that_computes_something_else_is_refused(deepseek: Any, monkeypatch: pytest.MonkeyPatch):
    """The trial at load chooses fewer tokens than it has, so that a wrong choice shows."""
    monkeypatch.setattr(Asked, "__mul__", lambda asked, scale: setattr(asked, "scale", -scale) or asked)
    with pytest.raises(UnsupportedModelError):
        copy_into_engine(deepseek)


def test_many_at_once(make_core: Callable[..., Core], sparse: Any):
    core = make_core(blocks=1200, other=sparse, prefill_chunk=150)
    check_at_once(core, sparse, prompts(40, 30, 20, seed=6), 6)
