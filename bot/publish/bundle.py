"""A run's bundle as a file: written for publishing, and read from strangers, who may have written anything into it."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from bot.contracts import Forge
from bot.errors import BundleError, ForgeError, RateLimited, Refused
from bot.patch.paths import path_problem
from bot.publish.messages import counting_again as messages
from bot.records import Ballot, Bundle, Checkout, FileChange, Outcome, Report, Verdict, bundle_of
from bot.records.bundle import SCHEMA_VERSION
from bot.sanitize.redact import redact_report

FILE = "bundle.json"
MAX_BYTES = 16 << 20
_MAX_CELLS = 4_000_000
_MAX_NESTING = 64
_MAX_TEST_SECONDS = 86_400.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # also one that never ends


def written(report: Report, secrets: Collection[str]) -> str:
    """The bundle of the report as JSON without secrets, the same text for the same count.

    Raises `BundleError` where it is larger than `read` takes.
    """
    try:
        text = redact_report(bundle_of(report).model_dump_json(), secrets) + "\n"
    except ValueError as error:  # a file that is no text in any encoding
        raise BundleError("the count can't be written as JSON") from error
    if len(text) > MAX_BYTES:
        raise BundleError(f"the bundle has {len(text):,} bytes; {MAX_BYTES:,} are read")
    return text


async def count_again(forge: Forge, repository: str, checkout: Checkout, report: Report) -> str:
    """Keep the report's bundle in the repository, and say how anybody counts again; where it can't be kept, why.

    Raises `RateLimited`.
    """
    try:
        url, reference = await forge.keep(
            repository, Path(checkout.workspace), FILE, lambda known: written(report, known)
        )
    except RateLimited:
        raise
    except (BundleError, ForgeError) as error:  # the count is published all the same
        return messages.not_kept(str(error), refused=isinstance(error, Refused))
    return messages.how(url, reference, FILE, report.parent)


def read(data: bytes) -> Bundle:
    """The bundle in a file's bytes, whole in itself. Raises `BundleError`, which says what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise BundleError(f"the file has more than {MAX_BYTES:,} bytes")
    if data[:1] != b"{":
        raise BundleError("the file is no JSON object: archives and other forms are not read")
    _check_nesting(data)
    try:
        head = json.loads(data)
        version, kind = head.get("schema_version"), head.get("kind")
        if kind != "troop bundle":
            raise BundleError('the file is not a bundle of Troop\'s: its `kind` is not "troop bundle"')
        if type(version) is not int or version < 1:
            raise BundleError("the file is not a bundle of Troop's: its `schema_version` is not a number from 1")
        if version > SCHEMA_VERSION:
            raise BundleError(f"the bundle has a later schema than this Troop reads ({SCHEMA_VERSION}): update Troop")
        bundle = Bundle.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:100] for part in first["loc"][:10])
        raise BundleError(f"the file is no bundle: {where}: {first['msg'][:300]}") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the file is not JSON: {str(error)[:300]}") from None
    _check(bundle)
    return bundle


def _check_nesting(data: bytes) -> None:
    """Before a parser that recurses sees it."""
    depth = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > _MAX_NESTING:
            raise BundleError(f"the file nests deeper than {_MAX_NESTING} levels")


def _check(bundle: Bundle) -> None:
    """What the types don't say. Raises `BundleError`."""
    commits = [bundle.base_commit, *([bundle.reviewed_commit] if bundle.reviewed_commit else [])]
    if not all(_COMMIT.fullmatch(commit) for commit in commits):
        _refuse("a commit is not a full hash")
    if not 0 <= bundle.environment.test_timeout <= _MAX_TEST_SECONDS:
        _refuse(f"a test has more than {_MAX_TEST_SECONDS:,.0f} seconds")
    _check_ballot(bundle.verdict.ballot, revises=bool(bundle.reviewed_commit))
    _check_verdict(bundle.verdict)


def _check_ballot(ballot: Ballot, *, revises: bool) -> None:
    candidates, tests = len(ballot.candidates), len(ballot.tests)
    if candidates * tests > _MAX_CELLS:
        _refuse(f"the matrix has more than {_MAX_CELLS:,} cells")
    if len(ballot.base) != tests or len(ballot.cells) != candidates or any(len(row) != tests for row in ballot.cells):
        _refuse(f"the matrix does not have a cell for each of {candidates:,} candidates and {tests:,} tests")
    if len(ballot.reviewed) != (tests if revises else 0) or len(ballot.authors) not in (0, tests):
        _refuse("what is said of each test is not one for each")
    named = [t for candidate in ballot.candidates for t in candidate.tests]
    if not _within([*named, *ballot.struck, *ballot.unsteady], tests):
        _refuse("a test is named that is not there")
    if not _within([parent for candidate in ballot.candidates for parent in candidate.parents], candidates):
        _refuse("a candidate is named that is not there")
    for test in ballot.tests:
        if "/" in test.path or path_problem(test.path):
            _refuse(f"the test {test.path[:100]!r} is not the name of a file")
    for candidate in ballot.candidates:
        seen: set[str] = set()
        for change in candidate.patch.changes:
            if problem := path_problem(change.path):
                _refuse(f"the path {change.path[:100]!r} {problem}")
            if change.path in seen:
                _refuse(f"the path {change.path[:100]!r} is changed twice")
            seen.add(change.path)
            _check_encoding(change)


def _check_encoding(change: FileChange) -> None:
    try:
        _ = change.content
    except (LookupError, ValueError):
        _refuse(f"the text of {change.path[:100]!r} is not {change.encoding[:40]!r}")


def _check_verdict(verdict: Verdict) -> None:
    candidates, tests = len(verdict.ballot.candidates), len(verdict.ballot.tests)
    if sorted(standing.candidate for standing in verdict.standings) != list(range(candidates)):
        _refuse("the standings do not have each candidate once")
    if (verdict.winner is not None) != (verdict.outcome is Outcome.SOLVED):
        _refuse("a solved run has a winner, and no other")
    named = [] if verdict.winner is None else [verdict.winner]
    own = verdict.own_tests
    if own is not None:
        named += [c for c, _ in (*own.candidates, *own.bases)] + [one.candidate for one in own.documented]
    if not _within(named, candidates):
        _refuse("a candidate is named that is not there")
    answered = verdict.answered
    if not _within([] if answered is None else answered.parting.tests, tests):
        _refuse("a test is named that is not there")


def _within(indices: Sequence[int], number: int) -> bool:
    return all(0 <= index < number for index in indices)


def _refuse(why: str) -> NoReturn:
    raise BundleError(f"the bundle contradicts itself: {why}")
