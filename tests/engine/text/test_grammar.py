"""Grammars: an answer follows its own whatever else runs, and otherwise the model."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import torch
from openai import OpenAI

from engine.core import Core
from engine.errors import RequestError
from engine.loop import EngineLoop
from engine.schedule.sequence import Request, SamplingParams
from engine.server.api import create_app
from engine.server.constraints import MAX_STRUCTURED_CHOICES
from engine.text.grammar import Grammar, Grammars, Guided, masked
from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import END, VOCABULARY, make_weights
from tests.engine.run.test_sampling import chi_square_limit
from tests.engine.server.serving import serve
from tests.engine.speculate.test_speculator import Oracle, answers, run

CALL = Grammar("regex", r"(add|sub)\([0-9]{1,3}, [0-9]{1,3}\)", "structured_outputs")
ITEM = {
    "type": "object",
    "properties": {"name": {"enum": ["a", "b"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
LARK = 'start: line ("\\n" line)~1..2\nline: "x = " NUMBER\nNUMBER: /[0-9]+/\n'


@pytest.fixture
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, VOCABULARY, [END])


def text(request: Request, index: int, tokenizer: Tokenizer) -> str:
    sequence = request.sequences[index]
    return tokenizer.text([t for t in sequence.tokens[sequence.prompt_length :] if t != END])


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize(
    ("grammar", "right"),
    [
        (CALL, lambda text: re.fullmatch(CALL.text, text)),
        (Grammar("json", json.dumps(ITEM), "f"), lambda text: set(json.loads(text)) == {"name", "count"}),
        (
            Grammar("choice", json.dumps(["yes", "no", 'quo"ted\n', "東京"]), "f"),
            lambda t: t in ("yes", "no", 'quo"ted\n', "東京"),
        ),
        (Grammar("lark", LARK, "f"), lambda text: re.fullmatch(r"x = \d+(\nx = \d+){1,2}", text)),
    ],
    ids=["regex", "json", "choice", "lark"],
)
def test_every_sample_follows(
    make_core: Callable[..., Core],
    tokenizer: Tokenizer,
    grammars: Grammars,
    grammar: Grammar,
    right: Callable[[str], Any],
    temperature: float,
):
    core = make_core()
    prompt = tokenizer.encode("def add(a, b):\n")
    guided = Request(prompt, SamplingParams(temperature=temperature, max_tokens=300, seed=3), n=8)
    guided.guide = grammars.compile(grammar)
    free = Request(prompt, SamplingParams(temperature=temperature, max_tokens=12, seed=3), n=3)
    run(core, [guided, free])
    ends = [sequence.finish_reason for sequence in guided.sequences]
    for index, end in enumerate(ends):
        if end == "stop":  # one that ran out of tokens may stand anywhere in its grammar
            assert right(text(guided, index, tokenizer)), text(guided, index, tokenizer)
    assert "stop" in ends
    alone = Request(prompt, free.params, n=3)
    run(make_core(), [alone])
    assert [s.tokens for s in free.sequences] == [s.tokens for s in alone.sequences]


def test_what_is_allowed_is_as_likely_as_without(grammars: Grammars, tokenizer: Tokenizer):
    guide = grammars.compile(Grammar("choice", '["a", "b"]', "f"))
    torch.manual_seed(0)
    logits = torch.randn(3, VOCABULARY)
    before = logits.clone()
    found = masked(logits, [Guided(guide, 1, ())])
    assert torch.equal(logits, before)
    assert torch.equal(found[[0, 2]], logits[[0, 2]])
    allowed = torch.isfinite(found[1]).nonzero()[:, 0].tolist()
    assert [tokenizer.text([token]) for token in allowed] == ["a", "b"]
    assert torch.equal(found[1, allowed], logits[1, allowed])


def follow(grammars: Grammars, grammar: Grammar, tokens: list[int]) -> str:
    """Why a grammar can't be followed over these tokens and one more."""
    guide = grammars.compile(grammar)
    for token in [*tokens, -1]:
        masked(torch.zeros(1, VOCABULARY), [Guided(guide, 0, [])])
        if guide.problem or token < 0:
            break
        guide.take(token)
    return guide.problem


def test_as_many_choices_as_a_request_may_list(grammars: Grammars, tokenizer: Tokenizer):
    choices = [f"choice {number * 7919} of many" for number in range(MAX_STRUCTURED_CHOICES)]
    tokens = tokenizer.encode(choices[-1], special=False)
    assert not follow(grammars, Grammar("choice", json.dumps(choices), "f"), tokens)


def test_a_regular_expression_that_explodes_is_given_up(grammars: Grammars, tokenizer: Tokenizer):
    grammar = Grammar("regex", "(a{1000}){1000}", "f")
    assert "too many expressions" in follow(grammars, grammar, tokenizer.encode("aaaa", special=False))


def test_frequencies_are_those_of_what_is_allowed(
    make_core: Callable[..., Core], tokenizer: Tokenizer, grammars: Grammars
):
    core = make_core(blocks=4000)
    prompt = tokenizer.encode("the quick brown fox")
    grammar = Grammar("choice", '["a", "b", "c", "d"]', "f")
    n = 600
    request = Request(prompt, SamplingParams(temperature=4.0, max_tokens=4, seed=1, logprobs=0), n=n)
    request.guide = grammars.compile(grammar)
    outputs = run(core, [request])
    chances: dict[str, float] = {}
    counts: dict[str, int] = {}
    for output in outputs:
        for entry in output.logprobs[:1]:  # of the model itself, at temperature 1
            name = tokenizer.text([entry.token])
            chances[name] = entry.logprob
            counts[name] = counts.get(name, 0) + 1
    assert set(counts) == {"a", "b", "c", "d"}
    weights = torch.tensor([chances[name] for name in sorted(counts)]).div(4.0).softmax(0) * n
    observed = torch.tensor([float(counts[name]) for name in sorted(counts)])
    assert float(((observed - weights) ** 2 / weights).sum()) < chi_square_limit(3)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafts_change_nothing(
    make_core: Callable[..., Core], tokenizer: Tokenizer, grammars: Grammars, temperature: float
):
    params = SamplingParams(temperature=temperature, max_tokens=40, seed=5, logprobs=1)
    prompt = tokenizer.encode("x = 1\nx = 2\n")

    def ask() -> Request:
        request = Request(list(prompt), params, n=3)
        request.guide = grammars.compile(Grammar("lark", LARK, "f"))
        return request

    plain = ask()
    run(make_core(max_draft=0), [plain])
    expected = answers([plain])
    drafted = ask()
    core = make_core(max_draft=4)
    oracle = Oracle(expected, right=2, wrong=2)
    core.scheduler._drafts._drafter = oracle
    run(core, [drafted])
    assert answers([drafted]) == expected
    assert core.scheduler.counters.accepted_tokens > 0


def test_preemption_goes_on_in_the_grammar(make_core: Callable[..., Core], tokenizer: Tokenizer, grammars: Grammars):
    prompts = [tokenizer.encode(f"def add{index}(a, b):\n    return a + b\n") for index in range(4)]
    params = SamplingParams(temperature=1.0, max_tokens=60, seed=7)

    def ask() -> list[Request]:
        requests = [Request(list(prompt), params, n=2) for prompt in prompts]
        for request in requests:
            request.guide = grammars.compile(Grammar("lark", LARK.replace("1..2", "6..6"), "f"))
        return requests

    roomy, tight = ask(), ask()
    run(make_core(blocks=400), roomy)
    core = make_core(blocks=18)
    run(core, tight)
    assert core.scheduler.counters.preemptions > 0
    assert answers(tight) == answers(roomy)


def test_a_copy_is_at_the_same_place_and_goes_its_own_way(grammars: Grammars, tokenizer: Tokenizer):
    first = grammars.compile(CALL)
    for token in tokenizer.encode("ad"):
        first.take(token)
    second = first.fork()
    for token in tokenizer.encode("d(1, 2"):
        first.take(token)
    assert not first.problem
    assert not second.problem
    first.take(tokenizer.encode(")")[0])
    assert first.ended
    assert not second.ended


def test_a_tokenizer_whose_bytes_are_not_known(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch):
    other = Tokenizer(tokenizer.inner)
    monkeypatch.setitem(other.__dict__, "bytes_of_tokens", None)
    guide = Grammars(other, VOCABULARY, [END]).compile(Grammar("choice", '["a", "b"]', "f"))
    found = masked(torch.zeros(1, VOCABULARY), [Guided(guide, 0, ())])
    assert [tokenizer.text([t]) for t in torch.isfinite(found[0]).nonzero()[:, 0].tolist()] == ["a", "b"]


def test_a_vocabulary_wider_than_the_tokenizer(tokenizer: Tokenizer):
    guide = Grammars(tokenizer, VOCABULARY + 37, [END]).compile(Grammar("regex", ".*", "f"))
    found = masked(torch.zeros(1, VOCABULARY + 37), [Guided(guide, 0, ())])
    allowed = torch.isfinite(found[0])
    assert not allowed[VOCABULARY:].any()
    assert bool(allowed[END])
    assert not any(allowed[token] for token in tokenizer.special_ids - {END})


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "a(", "f"),
        Grammar("lark", "start: nothing", "f"),
        Grammar("lark", "", "f"),
        Grammar("json", "[1]", "f"),
        Grammar("json", "{", "f"),
        Grammar("json", '{"type": "nothing"}', "f"),
        Grammar("lark", "x" * (1 << 20) + "x", "f"),
    ],
)
def test_grammars_that_can_not_be_used_are_refused(grammars: Grammars, grammar: Grammar):
    with pytest.raises(RequestError, match=r"gramma|schema") as caught:
        grammars.compile(grammar)
    assert caught.value.param == "f"
    assert len(str(caught.value)) < 500


def test_compiled_once(grammars: Grammars, monkeypatch: pytest.MonkeyPatch):
    grammars.compile(CALL)
    monkeypatch.setattr(Grammars, "_compile", lambda *_: pytest.fail("compiled again"))
    grammars.compile(Grammar(CALL.kind, CALL.text, CALL.field))


def test_a_grammar_that_fails_on_the_way_ends_its_request_alone(
    make_core: Callable[..., Core], tokenizer: Tokenizer, grammars: Grammars, monkeypatch: pytest.MonkeyPatch
):
    core = make_core()
    prompt = tokenizer.encode("def add(a, b):\n")
    guided = Request(prompt, SamplingParams(max_tokens=30), n=2)
    guided.guide = grammars.compile(CALL)
    free = Request(prompt, SamplingParams(max_tokens=8))
    core.submit(guided)
    core.submit(free)
    core.step()
    guided.sequences[1].guide.take(END)  # not allowed: it can't go on from there
    outputs = []
    while core.busy:
        outputs += core.step()
        core.scheduler.check_integrity()
    failures = [output for output in outputs if output.error is not None]
    assert [output.request for output in failures] == [guided]
    assert "grammar" in str(failures[0].error)
    assert free.sequences[0].finish_reason in ("stop", "length")


@pytest.fixture(scope="module")
def url(tokenizer: Tokenizer) -> Any:
    from tests.engine.conftest import copy_into_engine

    core = Core(copy_into_engine(make_weights()), tokenizer, 400)
    with serve(create_app(EngineLoop(core), "tiny")) as base:
        yield base


def test_the_openai_client_asks_for_json(url: str):
    client = OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    assert client.models.list().data[0].structured_outputs == ["json", "regex", "choice", "lark"]  # type: ignore[attr-defined]
    asked: Any = {"type": "json_schema", "json_schema": {"name": "item", "schema": ITEM, "strict": True}}
    message = [{"role": "user", "content": "an item"}]
    answer = client.chat.completions.create(
        model="tiny",
        messages=message,
        response_format=asked,
        n=3,
        seed=1,
        max_tokens=400,  # type: ignore[call-overload]
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert json.loads(choice.message.content)["name"] in ("a", "b")
    plain = client.completions.create(
        model="tiny", prompt="x", max_tokens=20, extra_body={"structured_outputs": {"regex": "(yes|no)!"}}
    )
    assert plain.choices[0].text in ("yes!", "no!")
    streamed = client.chat.completions.create(
        model="tiny",
        messages=message,  # type: ignore[arg-type]
        stream=True,
        extra_body={"structured_outputs": {"choice": ["left", "right"]}},
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) in ("left", "right")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "either"),
        ({"structured_outputs": {}}, "exactly one"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "exactly one"),
        ({"structured_outputs": {"ebnf": "a"}}, "ebnf"),
        ({"structured_outputs": {"regex": "(("}}, "grammar"),
        ({"structured_outputs": {"json": "nothing"}}, "schema"),
    ],
)
def test_unclear_wishes_are_refused(url: str, extra: dict[str, Any], words: str):
    body = {"messages": [{"role": "user", "content": "x"}], **extra}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in f"{error['message']} {error['param']}"
