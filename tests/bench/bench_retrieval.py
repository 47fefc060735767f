"""Where the ranking by words puts the file that was to be changed, on the fixes in a clone's own history.

The issue is the commit's message, or the change notes that it adds (`--notes`), which are written for users; the files
are those of its parent, without tests and documentation. Baseline, in the same run: BM25 over the same words.

python -m tests.bench.bench_retrieval [--quick] [--json FILE] [--repository CLONE] [--notes GLOB] [--commits N]
"""

import argparse
import itertools
import json
import math
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bot.retrieval import lexical_rank
from bot.retrieval.source_files import MAX_BYTES, decoded, is_source

ROOT = Path(__file__).parents[2]
MOST_CHANGED = 3  # files of a fix: a wider change has no file that it is about
LEAST = 40  # characters of an issue
K1, B = 1.2, 0.75  # of BM25, as is usual
FIRST = (1, 3, 5, 10, 30)


class Fix(NamedTuple):
    """An issue, the sources before it was mended, and which of them were changed."""

    issue: str
    files: list[tuple[str, str]]  # paths and texts
    changed: list[str]


class History:
    """A clone's fixes, the newest first."""

    def __init__(self, clone: Path, notes: str) -> None:
        """`notes`: a glob of change notes whose text is the issue; "": the commits' messages are."""
        self._clone = clone
        self._notes = notes
        self._texts: dict[str, str | None] = {}  # by object

    def fixes(self) -> Iterator[Fix]:
        """Each commit that changes a few sources."""
        with_notes = ["--", self._notes] if self._notes else []
        for commit in self._git("log", "--first-parent", "-m", "--format=%H", *with_notes).split():
            lines = self._git("diff", "--no-renames", "--name-status", f"{commit}^1", commit).splitlines()
            status = [line.split("\t") for line in lines]
            changed = [paths[0] for kind, *paths in status if kind == "M" and is_source(paths[0])]
            issue = self._issue(commit, [paths[0] for kind, *paths in status if kind == "A"])
            if 1 <= len(changed) <= MOST_CHANGED and len(issue) >= LEAST:
                files = self._files(f"{commit}^1")
                if set(changed) <= {path for path, _ in files}:
                    yield Fix(issue, files, changed)

    def _issue(self, commit: str, added: Sequence[str]) -> str:
        if not self._notes:
            return self._git("log", "-1", "--format=%B", commit)
        return "\n".join(self._git("show", f"{commit}:{path}") for path in added if Path(path).match(self._notes))

    def _files(self, commit: str) -> list[tuple[str, str]]:
        listed = [line.partition("\t") for line in self._git("ls-tree", "-r", commit).splitlines()]
        objects = {path: of.split()[2] for of, _, path in listed if is_source(path) and of.startswith("100")}
        for name in {*objects.values()} - self._texts.keys():
            raw = subprocess.run(["git", "-C", self._clone, "cat-file", "blob", name], check=True, capture_output=True)
            self._texts[name] = decoded(raw.stdout) if len(raw.stdout) <= MAX_BYTES else None
        return [(path, text) for path, name in objects.items() if (text := self._texts[name])]

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", "-C", self._clone, *arguments], check=False, capture_output=True)
        return done.stdout.decode(errors="replace")  # nothing of a commit without a parent


def bm25(counts: Sequence[Counter[str]], sizes: Sequence[int]) -> list[float]:
    """The score of each file, from how often it has each of the issue's words, and its length."""
    found = Counter(word for each in counts for word in each)
    rare = {word: math.log(1 + (len(counts) - n + 0.5) / (n + 0.5)) for word, n in found.items()}
    mean = sum(sizes) / len(sizes)
    return [
        sum(rare[word] * n * (K1 + 1) / (n + K1 * (1 - B + B * size / mean)) for word, n in each.items())
        for each, size in zip(counts, sizes, strict=True)
    ]


def places(fix: Fix) -> dict[str, int]:
    """The place of the first file that was changed, by each ranking, from 1."""
    terms = lexical_rank.terms(fix.issue)
    counts = [lexical_rank.counted(terms, text) for _, text in fix.files]
    ours = [path for path, _ in lexical_rank.rank(fix.issue, fix.files, counts)]
    scores = bm25(counts, [len(text) for _, text in fix.files])
    theirs = [path for _, path in sorted((-score, path) for score, (path, _) in zip(scores, fix.files, strict=True))]
    return {
        name: 1 + min(order.index(path) for path in fix.changed) for name, order in (("ours", ours), ("BM25", theirs))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="ten fixes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--repository", type=Path, default=ROOT, help="a clone with its history; without it, this one")
    parser.add_argument("--notes", default="", help="change notes, e.g. 'changelog/*.bugfix.rst'")
    parser.add_argument("--commits", type=int, default=100, help="fixes, the newest first")
    arguments = parser.parse_args()
    most = 10 if arguments.quick else arguments.commits
    found = [places(fix) for fix in itertools.islice(History(arguments.repository, arguments.notes).fixes(), most)]
    if not found:
        parser.error(f"no commit of {arguments.repository} has a parent and changes one to {MOST_CHANGED} source files")
    print(f"{len(found)} fixes; the share of which a changed file is among the first")
    shares = {name: {k: sum(each[name] <= k for each in found) / len(found) for k in FIRST} for name in found[0]}
    for name, of in shares.items():
        print(f"{name:5} " + "  ".join(f"{k}: {share:.0%}" for k, share in of.items()))
    if arguments.json:
        row: dict[str, object] = {"name": "retrieval, among the first ten", "figure": f"{shares['ours'][10]:.0%}"}
        row |= {"baseline": f"BM25: {shares['BM25'][10]:.0%}", "ratio": shares["ours"][10] / shares["BM25"][10]}
        arguments.json.write_text(
            json.dumps({"fixes": len(found), "shares": shares, "summary": [row]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
