"""States that stay in their pool: which layers' do, and what the trial at load refuses."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.model.in_pool import Advance
from engine.model.model import Model
from engine.model.state_trials import _error
from engine.model.states import Recurrent, keep_states_apart
from kernels.delta_rule import native, reference, triton
from kernels.delta_rule.reference import Places, Token
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.kinds.tiny import KINDS, SIZES, config_of
from tests.engine.test_greedy import check_at_once, prompts
from tests.kernels.interpreting import interpret

interpret()
DELTA = ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text", "olmo_hybrid", "lara_mini"]
DELTA += ["kimi_linear", "bailing_hybrid"]
OTHERS = ["mamba2", "bamba", "minimax", "lfm2", "zamba2", "falcon_h1"]


@pytest.fixture(scope="module")
def hybrid() -> Any:
    sizes = {name: size for name, size in SIZES.items() if name.startswith("linear_")}
    return make_weights("Qwen3_5Text", layer_types=["linear_attention", "full_attention"], **sizes)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Advance | None], None]:
    """A kernel as the device's."""
    return lambda advance: monkeypatch.setattr("engine.model.gate.advance_for", lambda device: advance)


def layers_of(model: Model) -> list[Recurrent]:
    return keep_states_apart(model._inner)


@pytest.mark.parametrize("kind", [*DELTA, *OTHERS])
def test_states_of_a_delta_rule_stay_and_those_of_others_are_copied(
    kind: str, use: Callable[[Advance], None], caplog: pytest.LogCaptureFixture
):
    if kind not in KINDS:
        pytest.skip("not in this version of transformers")
    use(reference.advance)
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        layers = layers_of(copy_into_engine(AutoModelForCausalLM.from_config(config_of(kind))))
    assert layers
    assert {layer.in_pool for layer in layers} - {None} == ({reference.advance} if kind in DELTA else set())
    assert "not advanced in their pool" not in caplog.text


@pytest.mark.parametrize(
    ("advance", "dtype"),
    [
        *((reference.advance, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
        (native.advance, torch.bfloat16),
        (triton.advance, torch.float16),  # the interpreter has no bfloat16
    ],
    ids=["torch", "torch-bfloat16", "torch-float16", "C-bfloat16", "triton-float16"],
)
def test_rounding_is_no_reason_to_refuse(
    hybrid: Any, use: Callable[[Advance], None], advance: Advance, dtype: torch.dtype
):
    use(advance)
    assert [layer.in_pool for layer in layers_of(copy_into_engine(hybrid, dtype))] == [advance]


def unnormed(token: Token, places: Places) -> Tensor:
    return reference.advance(token._replace(normed=False), places)


def that_keeps_guesses(token: Token, places: Places) -> Tensor:
    return reference.advance(token, places._replace(kept=True))


def that_forgets(token: Token, places: Places) -> Tensor:
    return reference.advance(token, places._replace(kept=False))


def that_mixes_texts(token: Token, places: Places) -> Tensor:
    return reference.advance(token, places._replace(slots=places.slots.flip(0)))


def that_reads_other_slots(token: Token, places: Places) -> Tensor:
    return reference.advance(token, places) + 0 * places.states[2].sum()


def that_fails(token: Token, places: Places) -> Tensor:
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("advance", "told"),
    [
        (unnormed, "it errs by"),
        (that_keeps_guesses, "it errs by"),
        (that_forgets, "it errs by"),
        (that_mixes_texts, "it errs by"),
        (that_reads_other_slots, "it errs by inf"),
        (that_fails, "RuntimeError: no kernel image is available"),
    ],
)
def test_a_kernel_that_is_wrong_is_not_taken_and_that_is_told(
    hybrid: Any, use: Callable[[Advance], None], make_core: Callable[..., Core], caplog: pytest.LogCaptureFixture,
    advance: Advance, told: str,
):  # fmt: skip
    use(advance)
    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        core = make_core(other=hybrid)
    assert [layer.in_pool for layer in layers_of(core.model)] == [None]
    assert f"not advanced in their pool: {told}" in caplog.text
    check_at_once(core, hybrid, prompts(3, 20, 12, seed=5), 4)


def test_a_step_advances_each_state_once(hybrid: Any, use: Callable[[Advance], None], make_core: Callable[..., Core]):
    """Decoding texts keep theirs, guesses do not, and chunks of prompts go by copies."""
    seen: list[tuple[int, bool]] = []

    def spy(token: Token, places: Places) -> Tensor:
        seen.append((len(places.slots), places.kept))
        return reference.advance(token, places)

    use(spy)
    core = make_core(other=hybrid)
    seen.clear()
    check_at_once(core, hybrid, prompts(3, 20, 12, seed=5), 5)
    assert seen.count((3, True)) >= 3
    core = make_core(other=hybrid, max_draft=1)
    core.scheduler._drafts._drafter = lambda decoding, budget: {each: [7] for each in decoding[:budget]}
    seen.clear()
    check_at_once(core, hybrid, prompts(3, 20, 12, seed=5), 5)
    assert {kept for _, kept in seen} == {True, False}


def test_without_a_kernel_states_are_copied(hybrid: Any, use: Callable[[None], None], make_core: Callable[..., Core]):
    use(None)
    core = make_core(other=hybrid)
    assert [layer.in_pool for layer in layers_of(core.model)] == [None]
    check_at_once(core, hybrid, prompts(3, 20, 12, seed=5), 4)


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_no_small_error(place: int):
    whole = torch.randn(2, 5)
    found = whole.clone()
    found[place, 0] = torch.nan
    assert _error((whole, found), (whole, whole)) == _error((found, whole), (whole, whole)) == float("inf")
