"""Edits as a model writes them, applied to the checkout: what trajectories and the selection have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot.patch.apply import FileEdit, Problem, Replace, apply, apply_onto
from bot.patch.manifests import is_manifest
from bot.patch.paths import normalised
from bot.patch.policy import judge as judge_paths
from bot.patch.policy import refusal
from bot.patch.protected_files import is_judge, touched_judges
from bot.patch.reader import checkout_reader, encoding_of, is_executable, text_of
from bot.patch.test_programs import programs
from bot.records import Checkout, Patch, SourceFile


@dataclass(frozen=True)
class Applied:
    """The patch that edits made."""

    patch: Patch
    left_out: str = ""  # files whose edits were not taken over, since they judge the candidate or may not be published
    onto: bool = False  # whether they were made on the earlier edit, which holds what they search for


Apply = Callable[[tuple[FileEdit, ...], Patch | None], Applied | Problem]  # of these edits, after that earlier patch


def editing(
    checkout: Checkout, shown: Sequence[SourceFile], *, repairs: bool, tests: Sequence[Sequence[str]] = ()
) -> Apply:
    """What applies edits to the checkout. `shown`: the files that the model saw; `tests`: the repository's commands.

    With `repairs` (`ResolvedSolver.repairs_edits`) edits are left out of files that judge a candidate, which cost
    it every vote, and of files that may not be published. Large models often extend the tests beside their fix; asking
    again would waste a call.
    """
    root, known = Path(checkout.root), frozenset(checkout.files)
    read, executable, encoding = checkout_reader(root), is_executable(root), encoding_of(root)

    base = text_of(root)
    judged = programs(tests, base)

    def made(chosen: tuple[FileEdit, ...], left_out: str, earlier: Patch | None) -> Applied | Problem:
        patch = apply(chosen, read, paths=checkout.files, executable=executable, encoding=encoding)
        onto = False
        if isinstance(patch, Problem) and earlier is not None and repairs:
            together = apply_onto(earlier, chosen, read, paths=checkout.files, executable=executable, encoding=encoding)
            if isinstance(together, Patch):
                patch, onto = together, True
        if isinstance(patch, Problem):
            return patch
        return _foreign(checkout, patch) or _forbidden(patch, known, base, judged) or Applied(patch, left_out, onto)

    def applied(edits: tuple[FileEdit, ...], earlier: Patch | None) -> Applied | Problem:
        edits = tuple(rehomed(edit, shown, known) for edit in edits)
        if not repairs:
            return made(edits, "", earlier)
        kept, left_out = _publishable(edits, known, judged)
        more, still_out = _publishable(edits, known, judged, manifests=True)
        if len(more) > len(kept):  # whether a manifest's change is harmless is known once it is made
            whole = made(more, still_out, earlier)
            if isinstance(whole, Applied):
                return whole
        return made(kept or edits, left_out, earlier)

    return applied


def _foreign(checkout: Checkout, patch: Patch) -> Problem | None:
    """Says that a commit of this repository can't hold the patch, in words for the model."""
    for path in patch.paths:
        if why := checkout.elsewhere(path):
            return Problem(
                text=f"the edit can't be made: {path} {why}\nMake the change in this repository's own files instead."
            )
    return None


def _forbidden(
    patch: Patch, known: frozenset[str], base: Callable[[str], str | None], judged: frozenset[str]
) -> Problem | None:
    """Why the patch could not win, in words for the model."""
    touched = touched_judges(patch.changes, known.__contains__, base, judged)
    if touched:
        return Problem(
            text=f"the edit {touched}, which judges it\n"
            "Leave the repository's tests and test configuration as they are, and repeat the rest of the edit."
        )
    if refused := judge_paths(patch).refused:
        return Problem(
            text=f"the edit may not be published: {'; '.join(refused[:3])}\n"
            "Leave such files as they are, and repeat the rest of the edit."
        )
    return None


def rehomed(edit: FileEdit, shown: Sequence[SourceFile], known: frozenset[str]) -> FileEdit:
    """The edit with its path corrected, where the path is no file and exactly one shown file has the searched text.

    Models misspell rare names, or leave out the folder; the text that they copied still identifies the file. Pure.
    """
    if not isinstance(edit, Replace) or normalised(edit.path) in known:
        return edit
    searched = [block.search.strip("\n") for block in edit.blocks]
    if not all(text.strip() for text in searched):
        return edit
    homes = [file.path for file in shown if all(file.text.count(text) == 1 for text in searched)]
    return edit.model_copy(update={"path": homes[0]}) if len(homes) == 1 else edit


def _publishable(
    edits: tuple[FileEdit, ...], known: frozenset[str], judged: frozenset[str], *, manifests: bool = False
) -> tuple[tuple[FileEdit, ...], str]:
    """The edits of files that neither judge candidates nor are refused, and the other paths, joined by commas.

    With `manifests` those of manifests are among the first.
    """
    out = [
        (is_judge(path, known.__contains__, judged) and not (manifests and is_manifest(path))) or bool(refusal(path))
        for path in (normalised(edit.path) for edit in edits)
    ]
    kept = tuple(edit for edit, left in zip(edits, out, strict=True) if not left)
    return kept, ", ".join(dict.fromkeys(edit.path for edit, left in zip(edits, out, strict=True) if left))
