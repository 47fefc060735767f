"""Biases, penalties and `min_tokens`: the definitions, and that batching, drafts and preemption change nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.run.adjustments import Adjuster
from engine.run.outputs import Row
from engine.schedule.sequence import Request, SamplingParams, Sequence
from engine.schedule.step import Chunk
from engine.text.output import ByteDecoder, OutputText
from tests.engine.conftest import END, VOCABULARY
from tests.engine.speculate.test_speculator import Oracle, again, answers, run
from tests.engine.test_greedy import prompts

BASE = SamplingParams(temperature=0.0, max_tokens=13, ignore_eos=True)
KINDS = {
    "bias": replace(BASE, logit_bias=((5, 3.0), (80, -100.0), (200, 2.5))),
    "presence": replace(BASE, presence_penalty=1.5),
    "frequency": replace(BASE, frequency_penalty=0.7),
    "repetition": replace(BASE, repetition_penalty=1.3),
    "least": replace(BASE, ignore_eos=False, min_tokens=9, logit_bias=((END, 100.0),)),
    "bad words": replace(BASE, bad_words=((300,), (8, 9), (8, 5, 300), (9, 8), tuple(range(40)))),
    "all": replace(
        BASE,
        logit_bias=((5, 3.0), (6, 1.0)),
        presence_penalty=-0.5,
        frequency_penalty=0.4,
        repetition_penalty=0.9,
        min_tokens=13,
        stop_token_ids=frozenset({5, 90}),
        bad_words=((8,), (5, 300)),
    ),
}


def by_hand(logits: torch.Tensor, prompt: list[int], said: list[int], params: SamplingParams) -> torch.Tensor:
    """One row as vLLM defines it, token by token."""
    found = logits.clone()
    for token, bias in params.logit_bias:
        found[token] += bias
    for token in {*prompt, *said}:
        found[token] *= params.repetition_penalty if found[token] <= 0 else 1 / params.repetition_penalty
    for token in set(said):
        found[token] -= params.frequency_penalty * said.count(token) + params.presence_penalty
    for *before, last in params.bad_words:
        if said[len(said) - len(before) :] == before:
            found[last] = -torch.inf
    if len(said) < params.min_tokens:
        for token in params.stop_token_ids | (frozenset() if params.ignore_eos else {END}):
            found[token] = -torch.inf
    return found


def test_rows_are_changed_as_defined_and_others_are_not():
    torch.manual_seed(0)
    prompt, said, draft = [5, 6, 7, 7], [8, 8, 5, 300], [8, 9, 300]
    rows, wanted = [], []
    for index, params in enumerate([BASE, *KINDS.values()]):
        sequence = Sequence(Request(prompt, params), index, prompt + said, index, OutputText(ByteDecoder([])))
        rows += [Row(Chunk(sequence, 1, draft), offset) for offset in range(4)]
    logits = torch.randn(len(rows), VOCABULARY) * 3
    before, adjust = logits.clone(), Adjuster(frozenset({END}))
    for _ in range(2):  # counting goes on where it was
        found = adjust(rows, logits)
        wanted = [
            by_hand(line, prompt, said + draft[: row.offset], row.sequence.request.params)
            for line, row in zip(logits, rows, strict=True)
        ]
        torch.testing.assert_close(found, torch.stack(wanted))
        assert torch.equal(found[:4], logits[:4])
        assert torch.equal(logits, before)
        for row in rows[::4]:
            row.sequence.tokens.append(8)
        said = [*said, 8]
    assert adjust(rows[:4], logits[:4]) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_is_that_of_the_definition(make_core: Callable[..., Core], weights: Any, kind: str):
    requests = [Request(prompt, KINDS[kind]) for prompt in prompts(3, 20, 9, seed=1)]
    run(make_core(), requests)
    for request in requests:
        (sequence,), said = request.sequences, list[int]()
        for token in sequence.tokens[len(request.prompt) :]:
            with torch.inference_mode():
                logits = weights(torch.tensor([request.prompt + said])).logits[0, -1].float()
            line = by_hand(logits, request.prompt, said, request.params)
            assert line[token] >= line.max() - 1e-3
            said.append(token)
        assert len(said) == (10 if kind == "least" else 13)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_same_with_any_draft(make_core: Callable[..., Core], kind: str, temperature: float):
    params = replace(KINDS[kind], temperature=temperature, seed=3)
    wanted = [Request(prompt, params) for prompt in prompts(6, 40, 30, seed=2)]
    for request in wanted:
        run(make_core(blocks=400), [request])  # each alone
    known = answers(wanted)
    for right, wrong, seed in ((5, 0, None), (0, 4, None), (6, 3, 1)):
        core = make_core(blocks=400, max_draft=8, prefill_chunk=24)
        core.scheduler._drafts._drafter = Oracle(known, right, wrong, seed)
        found = again(wanted)
        run(core, found)
        assert answers(found) == known
        assert core.scheduler.counters.drafted_tokens > 0


def test_preemption_forgets_nothing(make_core: Callable[..., Core]):
    params = replace(KINDS["all"], temperature=0.9, seed=4, max_tokens=40, min_tokens=40)
    wanted = [Request(prompt, params) for prompt in prompts(8, 16, 20, seed=5)]
    run(make_core(blocks=300), wanted)
    core = make_core(blocks=24, max_draft=12)
    core.scheduler._typical_output = 0.0  # admit as if answers were short
    core.scheduler._drafts._drafter = Oracle(answers(wanted), 12, 12, seed=6)
    found = again(wanted)
    run(core, found)
    assert answers(found) == answers(wanted)
    assert core.scheduler.counters.preemptions > 0


def test_stop_strings_are_not_looked_for_before_the_least_tokens():
    table = [b"a", b"b", b"c"]
    text = OutputText(ByteDecoder(table), ("ab", "c"), 3)
    shown = ""
    for token in (2, 0, 1):
        assert not text.push(token)
        shown += text.take()
    assert shown == "cab"
    assert not text.push(0)
    assert text.take() == ""  # it may begin a stop string
    assert text.push(1)
    assert shown + text.take(last=True) == "cab"
