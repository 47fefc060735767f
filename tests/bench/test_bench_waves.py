"""The policies of `bench_waves` on a scripted sampler, the visible examples on real code, and the record."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bot.evaluation.tasks import FunctionTask
from bot.records import Ending, Execution
from tests.bench import bench_waves, visible_examples
from tests.bench.visible_examples import Example, Outcome, distilled, examples_of, told
from tests.bench.wave_figures import Later, cascade_figures, compared, show, summary, wave_figures, within
from tests.bench.wave_policies import (
    CORRECTED,
    FRESH,
    PARTICLES,
    POLICIES,
    WAVES,
    Draws,
    Particle,
    Tried,
    alone,
    cascade,
    cascade_draws,
    first_wave,
    go_on,
    resampled,
)
from tests.bench.wave_record import Attempt, Messages, Missing, Record, Sampler, Sampling, Visible, first

TASK = FunctionTask(
    id="HumanEval/0",
    prompt='def double(x):\n    """\n    >>> double(2)\n    4\n    double(3) ➞ 6\n    double(0) == 0\n    """\n',
    entry_point="double",
    check="def check(candidate):\n    assert candidate(5) == 10\n",
)
VISIBLE = Visible(TASK, examples_of(TASK))


def attempt(passed: int, *, solves: bool = False, tokens: int = 10, text: str = "x") -> Attempt:
    """A reply that passes so many of the three examples."""
    outcomes = tuple(Outcome(i < passed, "4" if i < passed else f"{text}!") for i in range(3))
    return Attempt(text, tokens, 5, outcomes, solves)


class Scripted(Sampler):
    """Answers by the conversation: `replies` of each, in order."""

    def __init__(self, replies: dict[str, list[Attempt]], path: Path) -> None:
        super().__init__("scripted", Record(path), Sampling(0.8, 100, 0))
        self._replies = replies
        self.asked: list[tuple[Messages, int]] = []

    async def sample(self, visible: Visible, prefix: Messages, number: int) -> Attempt:
        self.asked.append((prefix, number))
        kind = "corrected" if len(prefix) > 1 else "warned" if "earlier attempts" in prefix[0][1] else "first"
        return self._replies[kind][number % len(self._replies[kind])]

    async def word(self, visible: Visible, prefix: Messages) -> Attempt:
        return Attempt(self._replies["word"][0].text, 1, 0, (), False)


def test_examples_are_read_in_the_forms_of_humaneval() -> None:
    assert [(one.call, one.value) for one in VISIBLE.examples] == [
        ("double(2)", "4"),
        ("double(3)", "6"),
        ("double(0)", "0"),
    ]
    words = TASK.model_copy(
        update={"prompt": 'def double(s, n=1):\n    """\n    double("a)", 2) =>true\n    double(x) = 3\n    """\n'}
    )
    assert examples_of(words) == (Example('double("a)", 2)', "True"),)


@pytest.mark.parametrize(
    ("code", "passes", "got"),
    [
        ("def double(x):\n    return x * 2", [True, True, True], "4"),
        ("def double(x):\n    return x * x", [True, False, True], "4"),
        ("def double(x):\n    return x / nothing", [False] * 3, "NameError: name 'nothing' is not defined"),
        ("def double(x:", [False] * 3, "SyntaxError"),
    ],
)
def test_examples_run_on_a_reply(code: str, passes: list[bool], got: str, capsys: pytest.CaptureFixture[str]) -> None:
    test = visible_examples.job(TASK, code, VISIBLE.examples).test
    assert test is not None
    exec(compile(test.text, "examples.py", "exec"), {})
    ran = Execution(ending=Ending.EXITED, exit_code=0, output=capsys.readouterr().out, seconds=0.0)
    found = visible_examples.outcomes(ran, VISIBLE.examples)
    assert [outcome.passes for outcome in found] == passes
    assert found[0].got.startswith(got)
    cut = visible_examples.outcomes(ran.model_copy(update={"output": ""}), VISIBLE.examples)
    assert not any(outcome.passes for outcome in cut)


def test_failures_are_told_by_behaviour_the_commonest_first() -> None:
    square, zero = (Outcome(True, "4"), Outcome(False, "9"), Outcome(True, "0")), (Outcome(False, "0"),) * 3
    assert told(VISIBLE.examples, square) == "- `double(3)` gives 9, and should give 6"
    text = distilled(VISIBLE.examples, [zero, square, square], 5)
    assert text.index("2 of 5 attempts:\n- `double(3)` gives 9") < text.index("1 of 5 attempts:\n- `double(2)` gives 0")


async def test_policies_share_the_first_wave_and_ask_for_as_many_replies(tmp_path: Path) -> None:
    bad, good = attempt(1), attempt(3, solves=True)
    replies = {"first": [bad, good, bad, bad], "corrected": [good], "warned": [bad]}
    for policy, later in {FRESH: 1, CORRECTED: 3, WAVES: 0, PARTICLES: 3}.items():
        sampler = Scripted(replies, tmp_path / "record")
        wave = await first_wave(sampler, VISIBLE, 4)
        tried = await go_on(policy, sampler, VISIBLE, wave, 1)
        assert [len(drawn) for drawn in tried.rounds] == [3]
        assert sum(one.solves for one in tried.rounds[0]) == later
        assert max(Counter(sampler.asked).values()) == 1  # no draw is counted twice


async def test_a_later_wave_is_told_of_all_failures_so_far(tmp_path: Path) -> None:
    sampler = Scripted({"first": [attempt(1)], "warned": [attempt(2)]}, tmp_path / "record")
    await go_on(WAVES, sampler, VISIBLE, await first_wave(sampler, VISIBLE, 2), 2)
    assert "2 earlier attempts" in sampler.asked[2][0][0][1]
    assert "4 earlier attempts" in sampler.asked[-1][0][0][1]
    assert "2 of 4 attempts" in sampler.asked[-1][0][0][1]


def test_attempts_that_pass_more_are_drawn_more() -> None:
    particles = [Particle(first(VISIBLE), attempt(passed)) for passed in (0, 0, 2, 2)]
    counts = Counter(one.attempt.score for n in range(50) for one in resampled(particles, np.random.default_rng(n)))
    assert counts.total() == 200
    assert counts[2 / 3] == pytest.approx(150, abs=25)  # weights 1 and 3


def test_pairs_are_cut_to_the_tokens_of_the_cheaper() -> None:
    dear = Tried(((attempt(3, solves=True, tokens=40), attempt(3, solves=True, tokens=40)),))
    cheap = Tried(((attempt(0, tokens=50),),))
    assert within(dear, 50, np.random.default_rng(0)) == (1.0, 1.0)
    assert within(dear, 39, np.random.default_rng(0)) == (0.0, 0.0)
    unsolved = Later("a", (attempt(0),), dict.fromkeys(POLICIES, cheap) | {WAVES: dear})
    found = compared([unsolved, unsolved], WAVES, FRESH)
    assert found["coverage"] == {"value": 100.0, "low": 100.0, "high": 100.0}
    solved = Later("b", (attempt(3, solves=True),), unsolved.tried)
    assert compared([solved], WAVES, FRESH)["coverage"]["value"] == 0  # the first wave has it already
    assert compared([solved], WAVES, FRESH)["coverage without the first wave"]["value"] == 100


async def test_the_cascade_pays_for_both_models(tmp_path: Path) -> None:
    right, wrong = attempt(3, solves=True, tokens=20), attempt(3, tokens=20)
    strong = (attempt(0, tokens=30), attempt(3, solves=True, tokens=30))
    taken = Draws((wrong,), strong, None, Attempt("No.", 2, 0, (), False))
    assert (cascade(taken).solves, cascade(taken).small, cascade(taken).strong) == (False, 20, 0)
    assert (cascade(taken, judges=True).solves, cascade(taken, judges=True).strong) == (True, 62)
    failed = Draws((attempt(1), attempt(2)), strong, attempt(3, solves=True, tokens=7), None)
    assert (cascade(failed, repairs=True).strong, cascade(failed, repairs=True).small) == (7, 20)
    assert cascade(failed).strong == alone(strong).strong == 60
    sampler = Scripted({"first": [attempt(0), right], "word": [attempt(0, text="yes")]}, tmp_path / "record")
    draws = await cascade_draws([Particle(first(VISIBLE), right)], sampler, VISIBLE, 4)
    assert len(draws.strong) == 2  # up to the first that passes
    assert (draws.repair, cascade(draws, judges=True).strong) == (None, 1)


def test_figures_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    tried = Tried(((attempt(3, solves=True),),))
    later = Later("a", (attempt(0), attempt(3, solves=True)), dict.fromkeys(POLICIES, tried))
    draws = Draws((attempt(0),), (attempt(3, solves=True, tokens=30),), attempt(0), None)
    figures = {"asked": {"hard": 2, "cascade": 1}, "waves": wave_figures([later])}
    figures |= {"cascade": cascade_figures([draws], 0.1)}
    assert figures["waves"]["first wave"]["right"] == 1
    assert figures["cascade"]["ways"]["small alone"]["cost of a right answer"]["value"] is None
    assert figures["cascade"]["ways"]["small, then strong"]["cost"] == 31.0
    assert [row["ratio"] for row in summary(figures)] == [1.0, 1.0, pytest.approx(31 / 30)]
    show(json.loads(json.dumps(figures)))
    assert "1 of 2 hard tasks" in capsys.readouterr().out


async def test_what_is_recorded_is_not_drawn_again(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    with pytest.raises(Missing) as missing:
        await Sampler("m", record, Sampling(0.8, 100, 0)).sample(VISIBLE, first(VISIBLE), 0)
    row = {"text": "t", "tokens": 3, "computed": 2, "outcomes": [{"passes": True, "got": "4"}], "solves": True}
    record.add(str(missing.value), row)
    with record.path.open("a") as file:
        file.write('{"key": "cut')  # by a kill
    again = Record(tmp_path / "record")
    again.add("other", row)
    sampler = Sampler("m", Record(tmp_path / "record"), Sampling(0.8, 100, 0))
    found = await sampler.sample(VISIBLE, first(VISIBLE), 0)
    assert (found.text, found.passes, found.solves) == ("t", True, True)
    with pytest.raises(Missing):
        await sampler.sample(VISIBLE, first(VISIBLE), 1)


def test_it_is_left_out_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_waves, "MODELS", tmp_path)
    assert bench_waves.main(["--record", str(tmp_path / "record")]) == 0
    assert "make models" in capsys.readouterr().out
