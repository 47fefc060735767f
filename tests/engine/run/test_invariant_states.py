"""Batch-invariant mode with recurrent layers: the same bits alone, among others, from snapshots and in other chunks;
and the greedy text of `transformers`.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.model.in_pool import COPIES, Advances
from engine.model.states import StatePool
from engine.run.batch import Text
from engine.run.invariant_states import TileStates
from engine.schedule.sequence import Request, SamplingParams
from kernels.places import Places
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import CHANGES, RECURRENT, SIZES
from tests.engine.run.test_invariant import crowd, tell
from tests.engine.test_greedy import check_at_once, prompts

LINEAR = {name: size for name, size in SIZES.items() if name.startswith("linear_")}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gated-delta-rule": ("Qwen3_5Text", RECURRENT | LINEAR),
    "state-space": ("Bamba", CHANGES["bamba"]),
    "both-in-a-layer": ("FalconH1", CHANGES["falcon_h1"]),
    "convolutions": ("Lfm2", CHANGES["lfm2"]),
}
SHORT = SamplingParams(temperature=0.8, seed=3, max_tokens=6, ignore_eos=True, logprobs=2)
EACH = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def weights_of() -> Callable[[str], Any]:
    return lambda name: make_weights(MODELS[name][0], **MODELS[name][1])


@EACH
def test_greedy_text_is_that_of_transformers(make_core: Callable[..., Core], weights_of: Any, name: str):
    weights = weights_of(name)
    core = make_core(other=weights, batch_invariant=True, prefill_chunk=19, max_draft=4)
    check_at_once(core, weights, prompts(4, 24, 9, seed=3), 6)
    check_at_once(core, weights, prompts(5, 24, 9, seed=3), 6)  # from snapshots, most of them
    assert core.scheduler.counters.cached_tokens > 0
    assert core.speculator.max_draft == 0


def told(core: Core, others: int) -> Any:
    prompt = [4 + at * 37 % 300 for at in range(37)]
    return tell(core, [Request(prompt, SHORT, n=2)], crowd(others, False))


@pytest.mark.parametrize("name", ["gated-delta-rule", "state-space", "convolutions"])
def test_the_same_bits_alone_in_a_crowd_and_in_other_chunks(make_core: Callable[..., Core], weights_of: Any, name: str):
    def core(**limits: Any) -> Core:
        return make_core(1200, other=weights_of(name), batch_invariant=True, **limits)

    alone = told(core(), 0)
    assert told(core(prefill_chunk=11), 0) == alone
    assert told(core(), 5) == alone
    assert told(core(prefill_chunk=23, states=4), 5) == alone


def test_the_usual_mode_does_differ_in_bits(make_core: Callable[..., Core], weights_of: Any):
    """Otherwise the test above would prove nothing."""
    weights = weights_of("gated-delta-rule")
    found = [told(make_core(1200, other=weights, **limits), 0) for limits in ({}, {"prefill_chunk": 11})]
    assert found[0] != found[1]


@pytest.mark.parametrize("stays", [False, True], ids=["copied", "in-the-pool"])
def test_tokens_of_a_tile_come_in_their_order_and_padding_moves_no_state(stays: bool):
    """Text 0 began in an earlier tile, 1 goes on from a snapshot, 2 begins here and goes on in the next tile."""
    texts = [Text(3, False, 0, 6, 0), Text(1, True, 6, 2, 0), Text(0, False, 8, 5, 0)]
    seen: list[tuple[bool, list[int], list[int]]] = []

    def step(token: Any, places: Places) -> torch.Tensor:
        states, slots, kept = places
        owned = slots >= 0
        found = states[slots]
        found[~owned] = found[owned][-1]  # what is seen of repeated rows where states are copied
        states[slots[owned]] += float(kept)
        return found

    class Layer:
        index = 0
        in_pool = Advances(delta_rule=step) if stays else COPIES

        def advance(self, call: Any, rows: torch.Tensor, cache: Any, begins: bool) -> torch.Tensor:
            known = cache.get_recurrent_state(0)
            assert begins == (known is None)
            if stays and not begins:
                state = known.advances.delta_rule(None, known.places)
                cache.update_recurrent_state(known, 0)
            else:
                state = torch.zeros(8, 1) if known is None else known
                cache.update_recurrent_state(state + 1, 0)
            seen.append((begins, rows[:, 0].tolist(), state[:, 0].tolist()))
            return rows[:, :, None] * 10.0

    pool = StatePool({(0, "recurrent", 0): torch.tensor([[9.0], [20.0], [7.0], [4.0]])})
    layer: Any = Layer()
    found = TileStates.of(pool, texts, 4, 10, 8, "cpu").mix(layer, SimpleNamespace(rows=8))
    assert found[0, :, 0].tolist() == [0, 10, 20, 30, 40, 50, 50, 50]
    assert seen == [
        (True, [4] * 8, [0.0] * 8),
        (False, [0, 2, *[2] * 6], [4.0, 20.0, *[20.0] * 6]),
        (False, [1, 3, 5, *[5] * 5], [5.0, 21.0, 1.0, *[1.0] * 5]),
    ]
    assert pool.states[0, "recurrent", 0][:, 0].tolist() == [2.0, 22.0, 7.0, 6.0]
