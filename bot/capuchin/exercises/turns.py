"""Turns of a conversation: messages, right replies, and the output of executions."""

import dataclasses
import random
from collections.abc import Sequence

from bot.capuchin.exercises.issues import Example
from bot.capuchin.exercises.names import module
from bot.capuchin.exercises.scenes import Scene
from bot.llm.prompts import render
from bot.records import Ending, Execution

TEST_PATH = "test_issue.py"


@dataclasses.dataclass(frozen=True)
class Turn:
    """One message. `loss`: whether the model learns to write it, unlike the prompt and wrong attempts."""

    role: str
    content: str
    loss: bool = False


def said(content: str) -> Turn:
    """A user's message."""
    return Turn("user", content)


def right(content: str) -> Turn:
    """A reply that the model learns."""
    return Turn("assistant", content, True)


def wrong(content: str) -> Turn:
    """A wrong reply, which the next one corrects."""
    return Turn("assistant", content)


# -- replies -------------------------------------------------------------------------------------------------------


def script(scene: Scene, examples: Sequence[Example] | None = None) -> str:
    """The test of the issue's examples: import, setup, and one assertion per call."""
    lines = [f"from {module(scene.path)} import {scene.root}"]
    for example in scene.examples if examples is None else examples:
        lines += example.setup
        if example.expected.error:
            lines += [
                "try:",
                f"    {example.call}",
                f"except {example.expected.error}:",
                "    pass",
                "else:",
                "    raise AssertionError",
            ]
        else:
            lines.append(f"assert {example.call} == {example.expected.text}")
    return "\n".join(lines)


def test_reply(text: str) -> str:
    """A `<test>` reply."""
    return f'<test path="{TEST_PATH}">\n{text}\n</test>'


test_reply.__test__ = False  # type: ignore[attr-defined]


def edit_reply(path: str, text: str, old: str, new: str) -> str | None:
    """An `<edit>` reply that replaces line `old` of `text`; None if there is no such line.

    If there are several, lines above are added to SEARCH until it is unique.
    """
    lines = [line.rstrip() for line in text.split("\n")]
    if old.rstrip() not in lines:
        return None
    place = lines.index(old.rstrip())
    for above in range(min(5, place + 1)):
        search = lines[place - above : place + 1]
        starts = [i for i in range(len(lines)) if lines[i : i + len(search)] == search]
        if len(starts) == 1:
            found, left = "\n".join(search), "\n".join([*search[:-1], new])
            return f'<edit path="{path}">\n<<<<<<< SEARCH\n{found}\n=======\n{left}\n>>>>>>> REPLACE\n</edit>'
    return None


# -- executions ------------------------------------------------------------------------------------------------------


# Where a sandbox may put the script. Only shown: nothing is written there.
FOLDERS = ("/tmp/troop/", "/tmp/troop/", "", "/tmp/tmp1x_8k/", "/work/", "/troop/test/", "/tmp/troop-7f3/")  # noqa: S108
PASSED = Execution(ending=Ending.EXITED, exit_code=0)


def failed(
    scene: Scene, text: str, rng: random.Random, error: tuple[str, str] | None = None, at: int | None = None
) -> Execution:
    """A failing run of test `text`: an AssertionError of its first assertion, or the exception `error` at line `at`."""
    lines = text.split("\n")
    asserts = [i for i, line in enumerate(lines) if line.startswith(("assert", "    raise"))]
    row = at if at is not None else asserts[0] if asserts else len(lines) - 1
    folder = rng.choice(FOLDERS)
    shown = lines[row].strip()
    out = [
        "Traceback (most recent call last):",
        f'  File "{folder}{TEST_PATH}", line {row + 1}, in <module>',
        f"    {shown}",
    ]
    if shown.startswith("assert ") and rng.random() < 0.6:
        out.append("    " + " " * 7 + "^" * (len(shown) - 7))
    if error is None:
        out.append("AssertionError")
    else:
        if at is None:
            tree = rng.choice(("/repo/", "/work/", "/troop/tree/", ""))
            out.append(f'  File "{tree}{scene.path}", line {rng.randrange(2, 90)}, in {scene.function}')
            out.append("    " + rng.choice(scene.planted.split("\n")[1:]).strip())
        out.append(f"{error[0]}: {error[1]}" if error[1] else error[0])
    return Execution(ending=Ending.EXITED, exit_code=1, output="\n".join(out) + "\n", seconds=0.05)


def failure(scene: Scene, text: str, rng: random.Random) -> Execution:
    """The run of the right test on the base commit, which fails."""
    actual = scene.examples[0].actual
    return failed(scene, text, rng, (actual.error, actual.text) if actual.error else None)


def ran(name: str, **executions: Execution) -> Turn:
    """The message that shows labelled executions through template `name`."""
    shown = [{"label": label.replace("_", " "), "execution": execution} for label, execution in executions.items()]
    return said(render("compact", name, executions=shown))
