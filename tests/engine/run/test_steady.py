"""Steps as arrays, and steps that overtake: the same tokens, the same ends, the same books as one row at a time."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.core import Core
from engine.run.batch import Batch
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Output, Request, SamplingParams, State
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost, Span, cut
from tests.bench.host_steps import BLOCK, make_core
from tests.engine.conftest import copy_into_engine, make_weights

WAYS = {"rows": (sys.maxsize, False), "arrays": (1, False), "ahead": (1, True)}


@pytest.fixture
def start(weights: Any, tokenizer: Tokenizer) -> Callable[..., Core]:
    def make(way: str, blocks: int = 300, other: Any = None, **limits: Any) -> Core:
        model = copy_into_engine(other or weights)
        least, ahead = WAYS[way]
        chosen = Limits(**({"block_size": 4, "prefill_chunk": 64, "max_batch": 16} | limits))
        return Core(model, tokenizer, blocks, chosen, RunOptions(CutCost(0), ahead=ahead, steady=least))

    return make


def asked(first: int, n: int = 1, stream: bool = False, **params: Any) -> Request:
    fields: dict[str, Any] = {"temperature": 1.0, "max_tokens": 11, "seed": first} | params
    return Request(list(range(first, first + 21)), SamplingParams(**fields), n, stream)


def mixed() -> list[Request]:
    """Ends of all kinds, at different steps."""
    return [
        asked(10, n=5, top_p=0.9),
        asked(60, n=3, temperature=0.0, ignore_eos=True, max_tokens=37),
        asked(90, stream=True, max_tokens=9, stop=("e", "a", "t")),
        asked(10, n=2, seed=77, top_k=5, stop_token_ids=frozenset(range(4, 60)), max_tokens=30),
    ]


def played(core: Core, requests: list[Request], later: dict[int, Request], gone: dict[int, int]) -> list[Any]:
    """What comes of requests, of others that come `later`, at their step, and some of which are aborted."""
    told: dict[tuple[int, int], list[Any]] = {}
    everything = [*requests, *later.values()]
    numbers = {id(request): number for number, request in enumerate(everything)}

    def note(output: Output) -> None:
        assert output.error is None
        kept = told.setdefault((numbers[id(output.request)], output.index), ["", None])
        kept[0] += output.text
        kept[1] = output.finish_reason or kept[1]

    for request in requests:
        core.submit(request)
    at = 0
    while core.busy or at <= max(later, default=0):
        if at in later:
            core.submit(later[at])
        if at in gone:
            core.abort(everything[gone[at]])
        for output in core.step():
            note(output)
        at += 1
    core.scheduler.check_integrity()
    assert not len(core.scheduler.running)
    counters = core.scheduler.counters
    tokens = [[s.tokens for s in request.sequences] for request in everything]
    return [tokens, told, counters.finished, counters.computed_tokens]


def test_the_same_comes_of_arrays_and_of_overtaking_steps(start: Callable[..., Core]):
    """With requests that come and go in the middle."""
    expected = None
    for way in WAYS:
        core = start(way)
        found = played(core, mixed(), {9: asked(120, n=2), 14: asked(10, n=4, seed=3)}, {})
        expected = expected or found
        assert found == expected
        assert core.scheduler.counters.generated_tokens == sum(len(s) - 21 for r in found[0] for s in r)
        assert (core.steady.steps > 20) == (way != "rows")
        assert (core.steady.overtaken > 10) == (way == "ahead")


def test_aborted_requests_end_and_the_others_go_on(start: Callable[..., Core]):
    expected: dict[int, Any] = {}
    for way in WAYS:
        core = start(way)
        found = played(core, mixed(), {}, {6: 1})
        assert core.scheduler.counters.finished["abort"] == 3
        for number in (0, 2, 3):
            assert found[0][number] == expected.setdefault(number, found[0][number])


@pytest.mark.parametrize("places", [130, 40])
def test_windows_move_on_with_the_arrays(start: Callable[..., Core], places: int):
    """Rows outgrow their windows; with 40 places for 10 rows, some are preempted, or start later."""
    kinds = ["sliding_attention", "full_attention"]
    weights = make_weights("Gemma3Text", attention="eager", sliding_window=9, layer_types=kinds)
    expected = None
    for way in WAYS:
        core = start(way, other=weights, windows=(places,))
        core.scheduler._typical_output = 0.0
        found = played(core, mixed(), {9: asked(120, n=2)}, {})
        expected = expected or found[0]
        assert found[0] == expected
        assert (core.steady.overtaken > 5) == (way == "ahead")
        (pool,) = core.scheduler.windows.pools
        assert pool.count == pool.available == places


def test_where_blocks_run_out_others_give_way(start: Callable[..., Core]):
    expected = None
    for way in WAYS:
        core = start(way, blocks=44)
        core.scheduler._typical_output = 0.0
        requests = [asked(first, n=2, ignore_eos=True, max_tokens=40) for first in (10, 60, 110)]
        found = played(core, requests, {}, {})
        assert core.scheduler.counters.preemptions > 0
        expected = expected or found[0]
        assert found[0] == expected


def test_graphs_get_items_that_are_cut_once_and_lengthened(monkeypatch: pytest.MonkeyPatch):
    """Over block borders, over the end of the room, and when rows leave; tokens come from the step before."""
    monkeypatch.setattr("engine.run.steady.SPARE", 2)
    core = make_core(40, 50, 120)
    decode = core.runner.decode
    assert decode is not None
    run, seen = decode.run, [0, 0]

    def checked(batch: Batch, cost: Any, places: Any) -> Any:
        found = run(batch, cost, places)
        if batch.known is None:
            return found
        rows, (table, shared_tokens) = core.scheduler.running, batch.known
        spans = [Span(s.table, 1, at + 1) for s, at in zip(rows, batch.rows[1].tolist(), strict=True)]
        items = cut(spans, rows.shared, BLOCK, cost, in_place=False)
        listed = [item._replace(blocks=list(item.blocks[: -(-item.end // BLOCK)])) for item in items]
        assert table.items() == listed
        assert shared_tokens == sum(span.length for span in spans) - sum(item.length for item in items)
        slots = [span.table[(span.length - 1) // BLOCK] * BLOCK + (span.length - 1) % BLOCK for span in spans]
        assert batch.rows[2].tolist() == slots
        assert batch.said is not None or not seen[1]
        sent = next(size.rows for size in decode._sizes.values() if size.rows.shape[1] >= batch.count)
        assert sent[0, : batch.count].tolist() == (batch.rows[0] if batch.said is None else batch.said).tolist()
        seen[0] += 1
        seen[1] += batch.said is not None
        return found

    monkeypatch.setattr(decode, "run", checked)
    monkeypatch.setattr("engine.run.graphs.resident_programs", lambda *_: 8)
    core.runner.warm_up()
    short = [Request(list(range(50)), SamplingParams(max_tokens=few, seed=few), client="one") for few in (20, 41)]
    long = Request(list(range(50)), SamplingParams(max_tokens=110, seed=1), 36, client="one")
    core.run([*short, long])
    assert seen[0] > 100
    assert core.steady.overtaken > 90
    assert core.graphs.misses == 0
    core.scheduler.check_integrity()


def test_a_row_that_is_not_a_number_ends_its_request_alone(start: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    for way in ("arrays", "ahead"):
        core = start(way)
        requests = [asked(first, n=2, ignore_eos=True, max_tokens=20) for first in (10, 60)]
        for request in requests:
            core.submit(request)
        while core.steady.steps < 5:
            core.step()
        forward, broken = core.model.forward, requests[0].sequences[1]

        def poisoned(step: Any, forward: Any = forward, core: Any = core, broken: Any = broken) -> torch.Tensor:
            logits = forward(step).clone()
            for row, sequence in enumerate(core.scheduler.running):
                if sequence is broken:
                    logits[row] = torch.nan
            return logits

        monkeypatch.setattr(core.model, "forward", poisoned)
        outputs = []
        while core.busy:
            outputs += core.step()
        assert [output.request for output in outputs if output.error] == [requests[0]]
        assert [s.generated for s in requests[1].sequences] == [20, 20]
        core.scheduler.check_integrity()


def test_a_failed_step_ends_its_requests(start: Callable[..., Core], monkeypatch: pytest.MonkeyPatch):
    core = start("ahead")
    request = asked(10, n=3, ignore_eos=True)
    core.submit(request)
    while core.steady.steps < 3:
        core.step()
    monkeypatch.setattr(core.runner, "run", lambda batch: 1 / 0)
    outputs = core.step()
    while core.busy:
        outputs += core.step()
    assert [type(output.error).__name__ for output in outputs if output.error] == ["StepError"]
    assert all(s.state is State.FINISHED for s in request.sequences)
    core.scheduler.check_integrity()


def test_what_needs_more_than_sampling_is_computed_row_by_row(start: Callable[..., Core]):
    for params in ({"logprobs": 1}, {"min_tokens": 3}, {"presence_penalty": 0.5}):
        core = start("ahead")
        core.run([asked(10, n=2, **params)])
        assert core.steady.steps == 0
