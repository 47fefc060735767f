"""What is shown of a repository when the model names, from the list of paths, what is read; and what that saves."""

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.errors import EndpointError
from bot.journal import MemoryJournal
from bot.llm.journaled import JournaledModel
from bot.records import Context, FinishReason, Issue, Message, ModelCall, Reply, TrajectoryEnd
from bot.settings import SolverSettings
from bot.solver.models import Models
from bot.solver.profile import resolve
from bot.solver.stages.context import build_context
from tests.bot.solver.stages.sampling import sample_trajectories
from tests.bot.solver.stages.test_context import repository
from tests.checkouts import checkout_of
from tests.fakes import FakeProgress, FakeSandbox, exited, passes_on_edits
from tests.scripted import Mode, ScriptedModel, estimate

ISSUE = Issue(title="quoting is lost", body="`split_fields('a,\"b,c\"')` gives three fields, expected two.")
FAULTY = "src/grid/core/fields.py"


def large(root: Path, files: int = 400) -> Path:
    """A package of several hundred modules; the faulty one shares a word with the issue, and so do many."""
    rng = random.Random(7)
    words = [f"word{i}" for i in range(300)] + ["quoting", "fields", "three"]

    def module(number: int) -> str:
        functions = []
        for i in range(rng.randrange(5, 60)):
            name, other = rng.choice(words), rng.choice(words)
            functions.append(f"def {name}_{i}(value):\n    # {other}\n    return value + {i}\n")
        return f'"""Module {number}."""\n\n\n' + "\n\n".join(functions)

    content: dict[str, str | bytes] = {f"src/grid/part{i % 20}/mod{i}.py": module(i) for i in range(files)}
    content[FAULTY] = "def split_fields(line):\n    return line.split(',')\n"
    content["src/grid/__init__.py"] = "from grid.core.fields import split_fields\n"
    content |= {"Makefile": "all:\n\ttrue\n", "docs/make.bat": "echo fields\n", "src/grid/site.css": "p { }\n"}
    return repository(root, content)


def script(named: Sequence[str], relevant: Sequence[str], before: Callable[[str], None] = lambda key: None) -> Any:
    def reply(key: str, messages: Sequence[Message]) -> str:
        before(key)
        text = messages[-1].content
        if key.startswith("listing"):
            return "They run through the core.\n<read>\n" + "\n".join(named) + "\n</read>"
        if key.startswith("relevance/group"):
            shown = re.findall(r'^<file path="([^"]+)"', text, re.MULTILINE)
            return "\n".join(
                f'<relevant path="{path}">\nsplits\n</relevant>' if path in relevant else f'<irrelevant path="{path}"/>'
                for path in shown
            )
        if key.startswith("relevance/"):
            return "<relevant>splits</relevant>" if key.removeprefix("relevance/") in relevant else "<irrelevant/>"
        return "<ranking>\n" + "\n".join(relevant) + "\n</ranking>"

    return reply


async def context_of(root: Path, model: Any, *, issue: Issue = ISSUE, **settings: Any) -> Context:
    solver = resolve(SolverSettings(**{"profile": "full", **settings}), model)
    return await build_context(issue, checkout_of(root), Models(model, model), solver, FakeProgress())


def characters(model: ScriptedModel) -> int:
    return sum(len(message.content) for call in model.calls for message in call.messages)


async def test_reading_by_the_list_costs_a_fraction_and_finds_the_same(tmp_path: Path) -> None:
    root = large(tmp_path)
    reply = script([FAULTY, "src/grid/part3/mod3.py"], [FAULTY])
    every, listed = ScriptedModel(reply), ScriptedModel(reply)
    before = await context_of(root, every, context="read all")
    after = await context_of(root, listed)
    assert len(every.calls) == 405
    assert len(listed.calls) <= 5
    assert [file.path for file in before.files] == [file.path for file in after.files] == [FAULTY]
    assert characters(listed) < 0.1 * characters(every)
    asked = "\n".join(call.messages[-1].content for call in listed.calls)
    assert not re.search(r"make\.bat|Makefile|site\.css", asked)
    line = next(line for line in asked.splitlines() if line.startswith(FAULTY))
    assert line == f"{FAULTY} (2 lines) defines split_fields"


async def test_what_matches_best_by_words_is_read_whatever_the_model_names(tmp_path: Path) -> None:
    root = large(tmp_path, 40)
    named = [f"src/grid/part{i}/mod{i}.py" for i in range(12)]
    model = ScriptedModel(script(named, [FAULTY]))
    context = await context_of(root, model)
    assert [file.path for file in context.files] == [FAULTY]
    assert 12 < context.considered <= 16


@pytest.mark.parametrize("mode", [Mode.GARBAGE, Mode.EMPTY, Mode.TRUNCATED])
async def test_answers_that_say_nothing_leave_the_lexical_ranking(tmp_path: Path, mode: Mode) -> None:
    model = ScriptedModel(script([], []), mode=mode)
    context = await context_of(large(tmp_path, 40), model)
    assert FAULTY in [file.path for file in context.files]


async def test_a_list_that_is_too_long_is_cut_to_the_best_matches(tmp_path: Path) -> None:
    model = ScriptedModel(script([FAULTY], [FAULTY]), context_window=9_000)
    await context_of(large(tmp_path), model)
    listing = next(call for call in model.calls if call.key == "listing/1")
    assert sum(estimate(m.content) for m in listing.messages) + listing.max_tokens < 9_000
    assert FAULTY in listing.messages[-1].content
    left_out = re.search(r"; (\d+) others, which share less, are left out", listing.messages[-1].content)
    assert left_out is not None
    assert (
        listing.messages[-1].content.count("lines)") + listing.messages[-1].content.count("1 line)") + int(left_out[1])
        == 402
    )
    for call in model.calls:
        assert sum(estimate(m.content) for m in call.messages) + call.max_tokens <= 9_000


async def test_a_list_that_overflows_is_asked_about_again_at_half_its_length(tmp_path: Path) -> None:
    class Small(ScriptedModel):
        async def reply(self, call: ModelCall) -> Reply:
            reply = await super().reply(call)
            too_long = call.key == "listing/1" or call.key.startswith("relevance/group")
            return Reply(text="too long", finish_reason=FinishReason.OVERFLOW) if too_long else reply

    model = Small(script([FAULTY], [FAULTY]))
    context = await context_of(large(tmp_path), model)
    assert model.keys[:2] == ["listing/1", "listing/1/shorter"]
    assert [file.path for file in context.files] == [FAULTY]
    assert f"relevance/{FAULTY}" in model.keys, "each file of a group that overflows is read by itself"


async def test_few_files_need_no_list_and_what_fits_no_ranking(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"pkg/m{i}.py": f"def f{i}():\n    pass\n" for i in range(5)}
    model = ScriptedModel(script([], sorted(files)))
    context = await context_of(repository(tmp_path, files), model)
    assert model.keys == ["relevance/group/1"]
    assert len(context.files) == 5


async def test_what_does_not_fit_is_ranked_once(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"m{i}.py": f"def f{i}():\n    pass\n" + "# words\n" * 1500 for i in range(8)}
    order = sorted(files, reverse=True)
    model = ScriptedModel(script([], order))
    context = await context_of(repository(tmp_path, files), model, context_tokens=7_000)
    assert [key for key in model.keys if key.startswith("ranking")] == ["ranking/1"]
    assert [file.path for file in context.files][:2] == order[:2]


async def test_a_very_long_file_is_shown_as_the_excerpts_that_matter(tmp_path: Path) -> None:
    filler = "\n".join(f"def other{i}(value):\n    return value + {i}\n" for i in range(4_000))
    text = f"{filler}\ndef split_fields(line):\n    return line.split(',')\n"
    assert len(text) > 170_000
    model = ScriptedModel(script([], ["big.py", "pkg.py"]))
    context = await context_of(repository(tmp_path, {"big.py": text, "pkg.py": "x = 1\n"}), model)
    assert [file.path for file in context.files] == ["big.py", "pkg.py"]
    assert context.files[0].excerpt
    assert "def split_fields(line):\n    return line.split(',')\n" in context.files[0].text
    assert estimate(context.files[0].text) <= 5_000
    assert max(len(m.content) for call in model.calls for m in call.messages) < 40_000


async def test_a_reply_cut_off_within_the_verdicts_is_asked_for_with_more_room(tmp_path: Path) -> None:
    def reply(key: str, messages: Sequence[Message]) -> str | Reply:
        done = '<relevant path="b.py">x</relevant>'
        return done if key.endswith("/longer") else Reply(text="Hmm", finish_reason=FinishReason.LENGTH)

    model = ScriptedModel(reply)
    context = await context_of(repository(tmp_path, {"a.py": "x = 1\n", "b.py": "y = 1\n"}), model)
    assert [file.path for file in context.files] == ["b.py"]
    assert model.keys == ["relevance/group/1", "relevance/group/1/longer"]


async def test_a_model_that_answers_no_call_is_an_error(tmp_path: Path) -> None:
    model = ScriptedModel(script([], []), mode=Mode.ERROR)
    with pytest.raises(EndpointError, match="answered none of"):
        await context_of(large(tmp_path, 40), model)


async def test_one_failure_among_the_files_of_a_group_is_no_end(tmp_path: Path) -> None:
    class Flaky(ScriptedModel):
        async def reply(self, call: ModelCall) -> Reply:
            reply = await super().reply(call)
            if call.key.startswith("relevance/group"):
                return Reply(text="too long", finish_reason=FinishReason.OVERFLOW)
            return Reply(text="gone", finish_reason=FinishReason.ERROR) if call.key.endswith("b.py") else reply

    model = Flaky(script([], ["a.py"]))
    context = await context_of(repository(tmp_path, {"a.py": "x = 1\n", "b.py": "y = 1\n"}), model)
    assert [file.path for file in context.files] == ["a.py"]


async def test_a_resumed_reading_pays_for_nothing_twice(tmp_path: Path) -> None:
    root, journal = large(tmp_path, 40), MemoryJournal()
    reply = script([FAULTY], [FAULTY, "src/grid/__init__.py"])
    first = await context_of(root, JournaledModel(ScriptedModel(reply), journal))
    nobody = ScriptedModel(reply, mode=Mode.HANG)
    assert await context_of(root, JournaledModel(nobody, journal)) == first
    assert nobody.calls == []


async def test_a_whole_run_has_less_than_half_the_characters_though_it_looks_around(tmp_path: Path) -> None:
    """Four trajectories; where every file is read none looks, as before there were commands, else each machine does."""
    root = large(tmp_path)
    relevant = [FAULTY, *(f"src/grid/part{i}/mod{i}.py" for i in (1, 2, 3))]
    other = "\n".join(f"def helper{i}(line):\n    return line.strip() + str({i})\n" for i in range(600))
    for path in relevant[:2]:
        (root / path).write_text((root / path).read_text() + other)
    reading = script(relevant, relevant)
    totals = {}
    for mode, looks in (("read all", 0), ("listed", 8)):

        def reply(key: str, messages: Sequence[Message], looks: int = looks) -> str:
            if not key.startswith("trajectory"):
                return str(reading(key, messages))
            first = ["<run>grep -rn split_fields src</run>\n<run>head -80 src/grid/__init__.py</run>"] if looks else []
            block = "<<<<<<< SEARCH\n    return line.split(',')\n=======\n    return []\n>>>>>>> REPLACE"
            edit = f'<edit path="{FAULTY}">\n{block}\n</edit>'
            steps = [*first, *(["<test>\nassert 0\n</test>", "<approve/>"] if "/test/" in key else [edit, "<done/>"])]
            return steps[min(sum(m.role == "assistant" for m in messages), len(steps) - 1)]

        model = ScriptedModel(reply)
        chosen = SolverSettings(profile="full", context=mode, trajectories=4, look_calls=looks)  # type: ignore[arg-type]
        solver, checkout = resolve(chosen, model), checkout_of(root)
        context = await build_context(ISSUE, checkout, Models(model, model), solver, FakeProgress())
        sandbox = FakeSandbox(lambda job: exited(0, "a line of code\n" * 80) if job.command else passes_on_edits(job))
        ends = await sample_trajectories(ISSUE, context, checkout, model, sandbox, solver, FakeProgress())
        assert [t.end for t in ends] == [TrajectoryEnd.DONE] * 4
        totals[mode] = characters(model)
        assert FAULTY in [file.path for file in context.files]
    assert totals["listed"] < 0.5 * totals["read all"]


async def test_of_a_long_file_what_the_reading_points_at_is_shown(tmp_path: Path) -> None:
    words = "".join(f"def split_fields_{i}(quoting, three, fields):\n    return quoting\n\n\n" for i in range(800))
    files: dict[str, str | bytes] = {
        "grid/fields.py": f"{words}def _next_mark(line):\n    return line.index(',')\n",
        "grid/other.py": "x = 1\n",
    }

    def reply(key: str, messages: Sequence[Message]) -> str:
        read = "".join(f'<relevant path="{path}">\nThe fault is in `_next_mark`.\n</relevant>\n' for path in files)
        return "<relevant>\nThe fault is in `_next_mark`.\n</relevant>" if key.endswith(".py") else read

    context = await context_of(repository(tmp_path, files), ScriptedModel(reply))
    (shown,) = (file for file in context.files if file.path == "grid/fields.py")
    assert shown.excerpt
    assert "def _next_mark(line):\n    return line.index(',')\n" in shown.text
