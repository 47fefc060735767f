"""Twins run on calls that no test makes, in a sandbox of processes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bot.records import Ballot, Differential, FileChange, Patch, Test
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.ballot import Count, count
from bot.solver.harness import Harness
from bot.solver.stages.differential import differentials
from bot.solver.stages.probing import noted_calls, probing
from bot.solver.variants import variants
from tests.bot.solver.ballots import ballot
from tests.fakes import FakeProgress

TEST = """\
from words import Box, head, spread, stamp

box = Box()
box.put("a b")
assert head("a b") == "a"
assert spread([1, 2]) == {1, 2}
stamp("a")
"""
# All pass the test. The first part of a text is what most take; one takes the first letter, one fails on no text.
COMMON = """
import os
class Box:
    def put(self, text): self.text = text
def spread(values): return set(values)
def stamp(text): return text + str(os.urandom(8).hex())
"""
PARTS = "def head(text): return (text.split() or [''])[0]"
AGAIN = "def head(text):\n    return next(iter(text.split()), '')"
LETTER = "def head(text): return text[:1]"
FAILS = "def head(text): return text.split()[0]"
ENDLESS = "def head(text):\n    while len(text) > 5: pass\n    return (text.split() or [''])[0]"


def twins(*heads: str, samples: int = 1) -> Ballot:
    """The candidates with these functions; the first has that many samples."""
    changes = [FileChange(path="words.py", text=f"{COMMON}{head}\n") for head in heads]
    of = [list(range(samples)), *([samples + i] for i in range(len(heads) - 1))]
    made = ballot(".", *["+"] * len(heads), trajectories=of)
    candidates = tuple(
        one.model_copy(update={"patch": Patch(changes=(change,), diff=f"{change.text}")})
        for one, change in zip(made.candidates, changes, strict=True)
    )
    return made.model_copy(update={"candidates": candidates, "tests": (Test(path="test_issue.py", text=TEST),)})


async def asked(root: Path, ballot: Ballot) -> Ballot:
    root.joinpath("words.py").write_text("")
    sandbox = await open_sandbox(SandboxSettings(kind="process"), root, notice=lambda _: None)
    try:
        found = await differentials(
            Count(ballot, count(ballot)), Harness(sandbox, SolverSettings(test_timeout=20), FakeProgress())
        )
    finally:
        await sandbox.close()
    return ballot.model_copy(update={"differentials": found})


@pytest.mark.slow
async def test_what_tests_leave_open_is_decided_by_what_most_answer(tmp_path: Path) -> None:
    """The patch that takes one letter is the first in the count without it."""
    before = twins(LETTER, PARTS, AGAIN, FAILS, ENDLESS)
    assert count(before)[0].candidate == 0
    found = await asked(tmp_path, before)
    [one] = found.differentials
    assert one.candidates == (0, 1, 2, 3, 4)
    assert one.apart == len(one.calls) < one.asked
    answers = dict(zip(one.calls, zip(*one.answers, strict=True), strict=True))
    assert answers["head('')"] == ("''", "''", "''", "raises IndexError", "''")
    assert ("'ab'", "'ab'") in {row[1:3] for row in answers.values() if row[0] == "'a'"}
    assert any(row[4] == "takes too long" != row[1] for row in answers.values())
    assert not [call for call in answers if call.startswith(("spread", "stamp", "box"))], (
        "alike, by chance, of an object"
    )
    assert count(found)[0].candidate in (1, 2)


def test_calls_that_wait_end_the_questions(tmp_path: Path) -> None:
    tmp_path.joinpath("naps.py").write_text("import time\ndef nap(seconds): time.sleep(seconds)\n")
    test = Test(path="test_issue.py", text="from naps import nap\nnap(0)\n")
    probe = probing(test, ["nap(0.01)", "nap(3600)", "nap(0.02)"])
    assert probe is not None
    text = probe.text.replace("_ALL = 10.0", "_ALL = 0.5")
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, ''); exec({text!r})"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert noted_calls(ran.stdout) == {"nap(0)": "None", "nap(0.01)": "None"}


def test_many_samples_outweigh_a_few() -> None:
    letters = twins(LETTER, PARTS, AGAIN, samples=5)
    given = Differential(candidates=(0, 1, 2), asked=9, apart=1, calls=("f(1)",), answers=(("1",), ("2",), ("2",)))
    for many, first in ((5, 0), (1, 1)):
        made = twins(LETTER, PARTS, AGAIN, samples=many).model_copy(update={"differentials": (given,)})
        assert count(made)[0].candidate == first
    assert [s.candidate for s in count(letters)] == [0, 1, 2]


@pytest.mark.parametrize(
    "calls",
    [
        ["f(1)"],
        ["f([], '')", "f({}, None)", "f((1, {2: [3.5]}), {True})"],
        [
            "m.C('x').g(a=1, b=[(1, 'y')])",
            "f(x)",
            "f(*[1])",
            "f(**{'a': 1})",
            "f()",
            "not a call",
            "1 +",
            "f(-1, k=b'z')",
        ],
    ],
)
def test_variants_are_new_calls_of_the_same_with_literals(calls: list[str]) -> None:
    found = variants(calls, 60)
    assert found == variants(calls[::-1], 60), "whatever the order"
    assert len(set(found)) == len(found) > 5
    assert not set(found) & set(calls)
    heads = {call.partition("(")[0] for call in calls}
    for text in found:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert text.partition("(")[0] in heads
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(value)
    assert variants(["f(x)", "f()", "1 +"], 60) == ()
    assert variants(["f(1e999, 1e308, -1e999)", f"f({'9' * 150})", f"f({'(' * 90}{')' * 90}, b'', 1j, ...)"], 60)
