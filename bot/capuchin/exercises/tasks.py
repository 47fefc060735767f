"""Exercises: whole conversations of the solver, rendered with its templates, with the right replies."""

import dataclasses
import difflib
import random
from collections.abc import Callable

from bot.capuchin.exercises import values
from bot.capuchin.exercises.mutate import candidates
from bot.capuchin.exercises.names import module
from bot.capuchin.exercises.scenes import Scene, Scenes
from bot.capuchin.exercises.turns import (
    FOLDERS,
    PASSED,
    TEST_PATH,
    Turn,
    edit_reply,
    failed,
    failure,
    ran,
    right,
    said,
    script,
    test_reply,
    wrong,
)
from bot.llm.prompts import render
from bot.records import Ending, Execution, FileChange, Patch, SourceFile, Summary, Test


def other_change(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """A wrong fix that a model might try: (line of the faulty function, its replacement)."""
    found = [m for kind in candidates(scene.planted).values() for m in kind if m.after not in (scene.fix, "")]
    if not found:
        return None
    same = [m for m in found if m.before == scene.bug]
    mutation = rng.choice(same if same and rng.random() < 0.5 else found)
    return mutation.before, mutation.after


# -- exercises -------------------------------------------------------------------------------------------------------


def _fix(scene: Scene) -> str | None:
    return edit_reply(scene.path, scene.text, scene.bug, scene.fix)


def _edit_prompt(scene: Scene, text: str) -> Turn:
    return said(render("compact", "edit", issue=scene.issue, files=scene.files, test=Test(path=TEST_PATH, text=text)))


def _test_prompt(scene: Scene) -> Turn:
    return said(render("compact", "test", issue=scene.issue, files=scene.files))


def write_edit(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """The right edit, then done."""
    fix, text = _fix(scene), script(scene)
    if fix is None:
        return None
    turns = [_edit_prompt(scene, text), right(fix)]
    if rng.random() < 0.25:
        turns += [ran("edit_result", original=failure(scene, text, rng), edited=PASSED), right("<done/>")]
    return turns


def revise_edit(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """One or two wrong edits with their results, then the right one."""
    fix, text = _fix(scene), script(scene)
    if fix is None:
        return None
    turns = [_edit_prompt(scene, text)]
    original = failure(scene, text, rng)
    for _ in range(rng.choice((1, 1, 1, 2))):
        change = other_change(scene, rng)
        attempt = edit_reply(scene.path, scene.text, *change) if change else None
        if attempt is None:
            return None
        edited = (
            original
            if rng.random() < 0.6
            else failed(scene, text, rng, values.error(rng) if rng.random() < 0.5 else None)
        )
        turns += [wrong(attempt), ran("edit_result", original=original, edited=edited)]
    turns.append(right(fix))
    if rng.random() < 0.6:
        turns += [ran("edit_result", original=original, edited=PASSED), right("<done/>")]
    return turns


def broken_test(scene: Scene, rng: random.Random) -> tuple[str, Execution] | None:
    """A faulty test, and its run on the base commit."""
    text = script(scene)
    dotted = module(scene.path)
    first = scene.examples[0]
    kind = rng.randrange(5)
    if kind == 0:
        if first.actual.error or first.expected.error:
            return None
        copied = [dataclasses.replace(x, expected=x.actual) for x in scene.examples if not x.actual.error]
        return script(scene, copied), PASSED
    if kind == 1:
        bad = rng.choice(
            (f"src.{dotted}", dotted.split(".")[-1] + "s", f"{dotted}.{scene.function}", scene.function, dotted + "2")
        )
        if bad == dotted:
            return None
        error = ("ModuleNotFoundError", f"No module named '{bad if rng.random() < 0.5 else bad.split('.')[0]}'")
        return text.replace(f"from {dotted} ", f"from {bad} ", 1), failed(
            scene, text.replace(dotted, bad, 1), rng, error, 0
        )
    if kind == 2:
        bad = scene.root[: rng.randrange(1, len(scene.root) + 1)] + rng.choice(("", "s", "_it", "2"))
        if bad == scene.root:
            return None
        error = ("ImportError", f"cannot import name '{bad}' from '{dotted}' (/work/{scene.path})")
        changed = text.replace(f"import {scene.root}", f"import {bad}", 1)
        return changed, failed(scene, changed, rng, error, 0)
    if kind == 3:
        row = next((i for i, line in enumerate(text.split("\n")) if line.startswith("assert")), None)
        if row is None:
            return None
        lines = text.split("\n")
        lines[row] = lines[row].replace(")", "", 1)
        changed = "\n".join(lines)
        folder = rng.choice(FOLDERS)
        message = rng.choice(
            ("'(' was never closed", "unterminated string literal (detected at line 2)", "invalid syntax")
        )
        output = (
            f'  File "{folder}{TEST_PATH}", line {row + 1}\n    {lines[row]}\n           ^\nSyntaxError: {message}\n'
        )
        return changed, Execution(ending=Ending.EXITED, exit_code=1, output=output)
    bad = scene.root[: max(1, len(scene.root) - rng.randrange(1, 4))] + rng.choice(("", "x", "er"))
    if bad == scene.root or f"{scene.root}(" not in text:
        return None
    changed = text.replace(f"{scene.root}(", f"{bad}(")
    row = next((i for i, line in enumerate(changed.split("\n")) if f"{bad}(" in line), 1)
    return changed, failed(scene, changed, rng, ("NameError", f"name '{bad}' is not defined"), row)


def write_test(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """The right test; half the time also its run and the approval."""
    text = script(scene)
    turns = [_test_prompt(scene), right(test_reply(text))]
    if rng.random() < 0.5:
        turns += [ran("test_result", original=failure(scene, text, rng)), right("<approve/>")]
    return turns


def review_test(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """A faulty test, its run, the right test, its run, the approval."""
    broken, text = broken_test(scene, rng), script(scene)
    if broken is None or broken[0] == text:
        return None
    turns = [
        _test_prompt(scene),
        wrong(test_reply(broken[0])),
        ran("test_result", original=broken[1]),
        right(test_reply(text)),
    ]
    return [*turns, ran("test_result", original=failure(scene, text, rng)), right("<approve/>")]


def blame_test(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """The right edit, with a faulty test that fails both times; then a new test."""
    broken, fix = broken_test(scene, rng), _fix(scene)
    if broken is None or fix is None or broken[1].passed or broken[0] == script(scene):
        return None
    result = ran("edit_result", original=broken[1], edited=broken[1])
    return [_edit_prompt(scene, broken[0]), Turn("assistant", fix, True), result, right(test_reply(script(scene)))]


def _diff(scene: Scene, old: str, new: str) -> Patch:
    changed = scene.text.replace(old, new, 1)
    lines = difflib.unified_diff(
        scene.text.split("\n"), changed.split("\n"), f"a/{scene.path}", f"b/{scene.path}", lineterm=""
    )
    diff = f"diff --git a/{scene.path} b/{scene.path}\n" + "\n".join(lines) + "\n"
    return Patch(changes=(FileChange(path=scene.path, text=changed),), diff=diff)


def choose(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """Candidates to choose from: a test first, then the first candidate that passes."""
    if _fix(scene) is None:
        return None
    choices = [(_diff(scene, scene.bug, scene.fix), PASSED)]
    text = script(scene)
    for _ in range(rng.choice((1, 2, 2))):
        change = other_change(scene, rng)
        if change is None or scene.text.count(change[0]) != 1:
            return None
        error = values.error(rng) if rng.random() < 0.3 else None
        choices.append((_diff(scene, *change), PASSED if rng.random() < 0.12 else failed(scene, text, rng, error)))
    rng.shuffle(choices)
    answer = next(i for i, (_, execution) in enumerate(choices) if execution.passed) + 1
    prompt = render("compact", "select", issue=scene.issue, files=scene.files, choices=[patch for patch, _ in choices])
    results = {"original": failure(scene, text, rng)}
    results |= {f"candidate_{i + 1}": execution for i, (_, execution) in enumerate(choices)}
    return [said(prompt), right(test_reply(text)), ran("select_result", **results), right(f"<choose>{answer}</choose>")]


def _summary(scene: Scene) -> str:
    return f"defines {scene.function}"


def relevance(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """Whether a file is relevant: it is if it defines what the issue is about."""
    file = rng.choice(scene.files)
    if file.path != scene.path or rng.random() < 0.35:
        others = [f for f in scene.files if f.path != scene.path]
        if not others:
            hidden = scene.text.replace(scene.planted, "...")
            if scene.function in hidden or len(hidden) < 60:
                return None
            others = [SourceFile(path=scene.path.replace("/", "/x", 1), text=hidden)]
        file = others[0]
    reply = f"<relevant>{_summary(scene)}</relevant>" if file.path == scene.path else "<irrelevant/>"
    return [said(render("compact", "relevance", issue=scene.issue, file=file)), right(reply)]


def ranking(scenes: Scenes, scene: Scene, rng: random.Random) -> list[Turn] | None:
    """A ranking of the relevant files."""
    rows = [Summary(path=scene.path, relevant=True, text=_summary(scene))]
    for _ in range(rng.randrange(1, 6)):
        path = scenes.names.path(rng)
        if path not in {row.path for row in rows}:
            rows.append(Summary(path=path, relevant=True, text=f"defines {scenes.names.function(rng)}"))
    shown = rng.sample(rows, len(rows))
    best = [rows[0], *(row for row in shown if row != rows[0])]
    prompt = render("compact", "ranking", issue=scene.issue, summaries=shown)
    return [said(prompt), right("\n".join(["<ranking>", *(row.path for row in best), "</ranking>"]))]


def unparsed(scene: Scene, rng: random.Random) -> list[Turn] | None:
    """A reply that could not be used, what was wrong with it, and the right one."""
    fix, text = _fix(scene), script(scene)
    if fix is None:
        return None
    if rng.random() < 0.3:
        return _unparsed_test(scene, text, rng)
    cut = rng.randrange(3, len(scene.bug)) if len(scene.bug) > 4 else 2
    garbled = scene.bug[:cut] + rng.choice("xse_(") + scene.bug[cut + 1 :]
    missing = f"SEARCH text was not found in {scene.path}"
    options = [(fix.replace(scene.bug, garbled, 1), missing)] * 3
    options += [(fix.replace("</edit>", "").replace(">>>>>>> REPLACE\n", ""), "a block has no >>>>>>> REPLACE")]
    options += [(scene.fix, "no <edit> found"), ("<done/>", "no <edit> found")]
    options += [(fix.replace(scene.path, "x" + scene.path, 1), f"there is no file x{scene.path}")]
    # The most frequent mistake of the model itself: it copies a line unchanged, mostly one that is not the
    # faulty one.
    code = [line for line in scene.planted.split("\n")[1:] if line.strip() and '"""' not in line]
    for line in (scene.bug, *rng.choices(code or [scene.bug], k=6)):
        same = edit_reply(scene.path, scene.text, line, line)
        options += [(same, "the edit changes nothing")] if same else []
    broken = scene.fix.replace(")", "", 1) if ")" in scene.fix else scene.fix + " ("
    options += [
        (fix.replace(scene.fix + "\n>>>", broken + "\n>>>"), f"{scene.path} would no longer parse after the edit")
    ]
    twice = [line for line in scene.text.split("\n") if line.strip() and scene.text.split("\n").count(line) > 1]
    if twice:
        line = rng.choice(twice)
        count = scene.text.split("\n").count(line)
        options += [(fix.replace(scene.bug, line, 1), f"SEARCH text was found {count} times in {scene.path}")] * 2
    bad, problem = rng.choice(options)
    return [_edit_prompt(scene, text), wrong(bad), said(render("compact", "unparsed", problem=problem)), right(fix)]


def _unparsed_test(scene: Scene, text: str, rng: random.Random) -> list[Turn] | None:
    problem = rng.choice(("no <test> found", "the <test> is not closed"))
    bad = rng.choice((text, test_reply(text).replace("</test>", ""), "<approve/>"))
    turns = [_test_prompt(scene)]
    if rng.random() < 0.4:
        broken = broken_test(scene, rng)
        if broken is None or not broken[1].passed:
            return None
        bad, problem = "<approve/>", "the test passes on the untouched repository, so it does not show the issue"
        turns += [wrong(test_reply(broken[0])), ran("test_result", original=broken[1])]
    return [*turns, wrong(bad), said(render("compact", "unparsed", problem=problem)), right(test_reply(text))]


Exercise = Callable[[Scene, random.Random], "list[Turn] | None"]
MIX: tuple[tuple[str, Exercise, float], ...] = (
    ("edit", write_edit, 0.62),
    ("edit review", revise_edit, 0.04),
    ("test", write_test, 0.19),
    ("test review", review_test, 0.04),
    ("blame", blame_test, 0.01),
    ("relevance", relevance, 0.04),
    ("select", choose, 0.02),
    ("unparsed", unparsed, 0.04),
)


def exercise(scenes: Scenes, rng: random.Random) -> tuple[str, list[Turn]]:
    """A random exercise: its kind and its conversation."""
    while True:
        scene = scenes.draw(rng)
        if rng.random() < 0.02:
            name, turns = "ranking", ranking(scenes, scene, rng)
        else:
            name, make, _ = rng.choices(MIX, [share for _, _, share in MIX])[0]
            turns = make(scene, rng)
        if turns:
            return name, turns
