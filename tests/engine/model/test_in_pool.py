"""States that stay in their pool: which layers' do, and what the trial at load refuses."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from engine.core import Core
from engine.model.in_pool import COPIES, Advances
from engine.model.kernel_trial import error_of_a_token
from engine.model.model import Model
from engine.model.state_trials import CLOSE, _error
from engine.model.states import Recurrent, keep_states_apart
from kernels.delta_rule import native, reference, triton
from kernels.delta_rule.reference import Token
from kernels.places import Places
from kernels.short_conv import native as conv_native
from kernels.short_conv import reference as conv_reference
from kernels.short_conv import triton as conv_triton
from kernels.short_conv.reference import Input
from kernels.state_space import native as space_native
from kernels.state_space import reference as space_reference
from kernels.state_space import triton as space_triton
from kernels.state_space.reference import Token as SpaceToken
from tests.engine.conftest import copy_into_engine, make_weights
from tests.engine.kinds.tiny import CHANGES, KINDS, SIZES, config_of
from tests.engine.test_greedy import check_at_once, prompts
from tests.kernels.interpreting import interpret

interpret()
DELTA = ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text", "olmo_hybrid", "lara_mini"]
DELTA += ["kimi_linear", "bailing_hybrid"]
SPACE = ["mamba", "mamba2", "bamba", "zamba2", "falcon_h1", "falcon_mamba", "jamba", "nemotron_h", "granitemoehybrid"]
CONV = ["lfm2", "zamba"]
OTHERS = ["minimax"]
TORCH = Advances(reference.advance, conv_reference.advance, space_reference.advance)
C = Advances(native.advance, conv_native.advance, space_native.advance)
TRITON = Advances(triton.advance, conv_triton.advance, space_triton.advance)
STAY = {
    **dict.fromkeys(DELTA, TORCH._replace(state_space=None)),
    **dict.fromkeys(SPACE, TORCH._replace(delta_rule=None)),
    **dict.fromkeys(CONV, TORCH.only("short_conv")),
    **dict.fromkeys(OTHERS, COPIES),
}


@pytest.fixture(scope="module")
def hybrid() -> Any:
    sizes = {name: size for name, size in SIZES.items() if name.startswith("linear_")}
    return make_weights("Qwen3_5Text", layer_types=["linear_attention", "full_attention"], **sizes)


@pytest.fixture(scope="module")
def mamba() -> Any:
    return make_weights("Bamba", **CHANGES["bamba"])


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Advances], None]:
    """Kernels as the device's."""
    return lambda advances: monkeypatch.setattr("engine.model.gate.advances_for", lambda device: advances)


def layers_of(model: Model) -> list[Recurrent]:
    return keep_states_apart(model._inner)


@pytest.mark.parametrize("kind", STAY)
def test_which_states_stay(kind: str, use: Callable[[Advances], None], caplog: pytest.LogCaptureFixture):
    if kind not in KINDS:
        pytest.skip("not in this version of transformers")
    use(TORCH)
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        layers = layers_of(copy_into_engine(AutoModelForCausalLM.from_config(config_of(kind))))
    assert layers
    assert {layer.in_pool for layer in layers} - {COPIES} == {STAY[kind]} - {COPIES}
    assert "not advanced in their pool" not in caplog.text


@pytest.mark.parametrize(
    ("advances", "dtype"),
    [
        *((TORCH, dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)),
        (C, torch.bfloat16),
        (TRITON, torch.float16),  # the interpreter has no bfloat16
    ],
    ids=["torch", "torch-bfloat16", "torch-float16", "C-bfloat16", "triton-float16"],
)
@pytest.mark.parametrize("other", ["delta_rule", "state_space"])
def test_rounding_is_no_reason_to_refuse(
    request: pytest.FixtureRequest, use: Callable[[Advances], None], other: str, advances: Advances, dtype: torch.dtype
):
    use(advances)
    weights = request.getfixturevalue("mamba" if other == "state_space" else "hybrid")
    found = {layer.in_pool for layer in layers_of(copy_into_engine(weights, dtype))}
    assert found == {advances._replace(**{"delta_rule" if other == "state_space" else "state_space": None})}


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


def that_forgets_inputs(given: Input, places: Places) -> Tensor:
    return conv_reference.advance(given, places._replace(kept=False))


def without_activation(given: Input, places: Places) -> Tensor:
    return conv_reference.advance(given._replace(silu=False), places)


def without_the_bias(token: SpaceToken, places: Places) -> Tensor:
    return space_reference.advance(token._replace(bias=None), places)


def that_keeps_guesses_of_a_space(token: SpaceToken, places: Places) -> Tensor:
    return space_reference.advance(token, places._replace(kept=True))


def that_mixes_states(token: SpaceToken, places: Places) -> Tensor:
    return space_reference.advance(token, places._replace(slots=places.slots.flip(0)))


def half_louder(token: Any, places: Places) -> Tensor:
    """By less than what bfloat16's rounding may be."""
    found: Tensor = (reference if isinstance(token, Token) else space_reference).advance(token, places)
    found[..., ::2] *= 1.04
    return found


@pytest.mark.parametrize("name", ["delta_rule", "state_space"])
def test_rounding_of_16_bits_hides_no_error(
    request: pytest.FixtureRequest, use: Callable[[Advances], None], name: str, caplog: pytest.LogCaptureFixture
):
    use(TORCH._replace(**{name: half_louder}))
    weights = request.getfixturevalue("mamba" if name == "state_space" else "hybrid")
    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        layers = layers_of(copy_into_engine(weights, torch.bfloat16))
    assert all(getattr(layer.in_pool, name) is None for layer in layers)
    assert f"not advanced in their pool by {name}: it errs by" in caplog.text


@pytest.mark.parametrize(
    ("kind", "advance", "told"),
    [
        ("delta_rule", unnormed, "it errs by"),
        ("delta_rule", that_keeps_guesses, "it errs by"),
        ("delta_rule", that_forgets, "it errs by"),
        ("delta_rule", that_mixes_texts, "it errs by"),
        ("delta_rule", that_reads_other_slots, "it errs by inf"),
        ("delta_rule", that_fails, "RuntimeError: no kernel image is available"),
        ("short_conv", that_forgets_inputs, "it errs by"),
        ("short_conv", without_activation, "it errs by"),
        ("state_space", without_the_bias, "it errs by"),
        ("state_space", that_keeps_guesses_of_a_space, "it errs by"),
        ("state_space", that_mixes_states, "it errs by"),
    ],
)
def test_a_kernel_that_is_wrong_is_not_taken_and_that_is_told(
    request: pytest.FixtureRequest, use: Callable[[Advances], None], make_core: Callable[..., Core],
    caplog: pytest.LogCaptureFixture, kind: str, advance: Any, told: str,
):  # fmt: skip
    weights = request.getfixturevalue("mamba" if kind == "state_space" else "hybrid")
    use(TORCH._replace(**{kind: advance}))
    with caplog.at_level(logging.WARNING, "engine.model.state_trials"):
        core = make_core(other=weights)
    assert {layer.in_pool for layer in layers_of(core.model)} == {
        STAY[weights.config.model_type]._replace(**{kind: None})
    }
    assert f"states are copied in each step, not advanced in their pool by {kind}: {told}" in caplog.text
    check_at_once(core, weights, prompts(3, 20, 12, seed=5), 4)


@pytest.mark.parametrize("name", ["delta_rule", "state_space"])
def test_a_step_advances_each_state_once(
    request: pytest.FixtureRequest, use: Callable[[Advances], None], make_core: Callable[..., Core], name: str
):
    """Decoding texts keep theirs, guesses do not, and chunks of prompts go by copies."""
    weights = request.getfixturevalue("mamba" if name == "state_space" else "hybrid")
    advance: Any = getattr(TORCH, name)
    seen: list[tuple[int, bool]] = []

    def spy(token: Any, places: Places) -> Tensor:
        seen.append((len(places.slots), places.kept))
        found: Tensor = advance(token, places)
        return found

    use(COPIES._replace(**{name: spy}))
    core = make_core(other=weights)
    seen.clear()
    check_at_once(core, weights, prompts(3, 20, 12, seed=5), 5)
    assert seen.count((3, True)) >= 3
    core = make_core(other=weights, max_draft=1)
    core.scheduler._drafts._drafter = lambda decoding, budget: {each: [7] for each in decoding[:budget]}
    seen.clear()
    check_at_once(core, weights, prompts(3, 20, 12, seed=5), 5)
    assert {kept for _, kept in seen} == {True, False}


def test_without_a_kernel_states_are_copied(
    hybrid: Any, use: Callable[[Advances], None], make_core: Callable[..., Core]
):
    use(COPIES)
    core = make_core(other=hybrid)
    assert [layer.in_pool for layer in layers_of(core.model)] == [COPIES]
    check_at_once(core, hybrid, prompts(3, 20, 12, seed=5), 4)


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_number_is_no_small_error(place: int):
    whole = torch.randn(2, 5)
    found = whole.clone()
    found[place, 0] = torch.nan
    assert _error((whole, found), (whole, whole)) == _error((found, whole), (whole, whole)) == float("inf")


def test_one_large_number_that_is_rounded_otherwise_is_no_reason_to_refuse():
    """Some features of real models are hundreds of times as large as others."""
    whole = torch.randn(2, 4096)
    whole[:, 7] = 300.0
    found = whole + torch.where(whole == 300.0, 2.0, 0.0)  # bfloat16's last place there
    assert _error(found, whole) > 0.3
    assert error_of_a_token(found, whole) < CLOSE
    assert error_of_a_token(whole.flip(0), whole) > CLOSE
