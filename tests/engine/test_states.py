"""Models with recurrent layers in the whole engine: greedy text, what is shared, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from tests.engine.conftest import make_weights
from tests.engine.kinds.tiny import CHANGES, SIZES
from tests.engine.test_greedy import check_at_once, greedy, prompts


@pytest.fixture(scope="module")
def hybrid() -> Any:
    """A layer of the gated delta rule, then one of attention."""
    sizes = {name: size for name, size in SIZES.items() if name.startswith("linear_")}
    return make_weights("Qwen3_5Text", layer_types=["linear_attention", "full_attention"], **sizes)


def test_siblings_and_branches_compute_no_token_twice(make_core: Callable[..., Core], hybrid: Any):
    core = make_core(other=hybrid, prefill_chunk=19)
    texts = prompts(6, 34, 16, seed=3)
    requests = [greedy(text, 8, n=3) for text in texts]
    core.run(requests)
    core.scheduler.check_integrity()
    for request in requests:
        tokens = {tuple(sequence.tokens) for sequence in request.sequences}
        assert len(tokens) == 1
        (found,) = tokens
        with torch.inference_mode():
            logits = hybrid(torch.tensor([found[:-1]]), use_cache=False).logits[0]
        assert list(found[len(request.prompt) :]) == logits.argmax(-1)[len(request.prompt) - 1 :].tolist()
    distinct = {tuple(text[:end]) for text in texts for end in range(1, len(text) + 1)}
    branches = 8 * len(texts)  # each goes on from the last whole block that it shares
    assert core.scheduler.counters.computed_tokens <= len(distinct) + branches
    assert core.scheduler.counters.preemptions == 0


def test_a_conversation_goes_on_from_its_answer(make_core: Callable[..., Core], hybrid: Any):
    core = make_core(other=hybrid)
    history = prompts(1, 40, 5)[0]
    for turn in range(3):
        before = core.scheduler.counters.computed_tokens
        check_at_once(core, hybrid, [history], 9)
        if turn:
            assert core.scheduler.counters.computed_tokens - before == 4 + 1
        request = greedy(history, 9)
        core.run([request])
        history = [*request.sequences[0].tokens, 7, 8, 9, 10]


@pytest.mark.parametrize("states", [2, 5])
@pytest.mark.parametrize("kind", ["delta_rule", "state_space"])
def test_few_slots_let_few_run(make_core: Callable[..., Core], hybrid: Any, kind: str, states: int):
    weights = make_weights("Bamba", **CHANGES["bamba"]) if kind == "state_space" else hybrid
    core = make_core(other=weights, prefill_chunk=19, states=states)
    check_at_once(core, weights, prompts(6, 20, 12, seed=5), 6)
    core.scheduler.check_integrity()


def test_in_bfloat16(make_core: Callable[..., Core], hybrid: Any):
    core = make_core(other=hybrid, dtype=torch.bfloat16)
    states = core.model.states.states
    assert {state.dtype for state in states.values()} == {torch.bfloat16, torch.float32}
    texts = prompts(3, 20, 12, seed=5)
    together = [greedy(text, 6) for text in texts]
    core.run(together)
    assert all(sequence.generated == 6 for request in together for sequence in request.sequences)


def test_what_is_not_finite_ends_its_request_alone(make_core: Callable[..., Core], hybrid: Any):
    core = make_core(other=hybrid)
    text = prompts(1, 30, 5)[0]
    check_at_once(core, hybrid, [text], 4)
    for state in core.model.states.states.values():
        state.fill_(torch.nan)
    failed = greedy([*text, 5, 6], 4)
    core.submit(failed)
    errors = [output.error for _ in range(3) for output in core.step()]
    assert any(errors)
    core.scheduler.check_integrity()
    check_at_once(core, hybrid, [text], 4)
