"""Tasks of public benchmarks, as their files hold them: HumanEval's form, SWE-bench's and Multi-SWE-bench's. Pure but
for reading the file.

HumanEval: arXiv 2107.03374; HumanEval+ in the same form, or in EvalPlus' own, with inputs in the place of tests.
SWE-bench: arXiv 2310.06770; `FAIL_TO_PASS` and `PASS_TO_PASS` are lists, or strings that hold one as JSON or as Python
writes it. Multi-SWE-bench: arXiv 2504.02605; its tests are named by how they turned out: `f2p_tests` and so on.
"""

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from bot.errors import EvaluationError, ModelMissing
from bot.evaluation.evalplus import check_of
from bot.llm.published_models import HUMANEVAL
from bot.records import Record

_MOST = 2 << 30  # bytes of a file
_OF_IMAGES = re.compile(r"image|docker|tag", re.IGNORECASE)
_ALIASES = {  # of SWE-bench's fields in benchmarks of its form: SWE-bench Pro, SWE-PolyBench
    "fail_to_pass": "FAIL_TO_PASS",
    "pass_to_pass": "PASS_TO_PASS",
    "F2P": "FAIL_TO_PASS",
    "P2P": "PASS_TO_PASS",
}


class FunctionTask(Record):
    """One function to be written, judged by a check that is never shown."""

    id: str
    prompt: str  # signature and docstring
    entry_point: str
    check: str  # Python that defines `check(candidate)`
    # A module that the check passes on; "": none is known. Shown to nobody, and no part of what a task is known by.
    reference: str = Field(default="", exclude=True)


class RepositoryTask(Record):
    """One issue in one repository, judged by tests that are never shown."""

    id: str
    repository: str  # owner/name, or the path of a checkout
    base_commit: str  # "": what is checked out there
    title: str
    body: str
    test_patch: str = ""  # a unified diff, applied before the tests run
    fail_to_pass: tuple[str, ...]  # names as the test runner prints them
    pass_to_pass: tuple[str, ...] = ()
    reference: str = ""  # the fix that was merged, as a unified diff; shown to nobody
    # Of Multi-SWE-bench, whose tools know a task by it; no part of what a task is known by here.
    pull_request: int | None = Field(default=None, exclude=True)
    fields: Mapping[str, str] = Field(default={}, exclude=True)  # of its line, those that may name an image


Task = FunctionTask | RepositoryTask


def read_tasks(source: str, models_dir: Path) -> tuple[Task, ...]:
    """The tasks of a file (JSON lines or a JSON list, gzipped or not), or of `humaneval`, which `troop models` fetches.

    Raises `EvaluationError`, which names the line, and `ModelMissing`.
    """
    if source.lower() == HUMANEVAL.name:
        if not HUMANEVAL.is_in(models_dir):
            raise ModelMissing(f"HumanEval is not in {models_dir}: `troop models {HUMANEVAL.name}` fetches it")
        path = HUMANEVAL.path(models_dir)
    else:
        path = Path(source).expanduser()
    rows = list(_rows(path))
    if not rows:
        raise EvaluationError(f"{path} holds no task")
    tasks = tuple(_task(row, where) for where, row in rows)
    if len({type(task) for task in tasks}) > 1:
        raise EvaluationError(f"{path} mixes functions and repositories: evaluate them apart, their shares do not add")
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen:
            raise EvaluationError(f"{path} holds {task.id} twice: samples are kept by the task's id")
        seen.add(task.id)
    return tasks


def spread(tasks: Sequence[Task], limit: int | None) -> tuple[Task, ...]:
    """All tasks, or `limit` of them spread evenly over the file."""
    if limit is None or limit >= len(tasks):
        return tuple(tasks)
    return tuple(tasks[i * len(tasks) // limit] for i in range(limit))


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each value of the file, with the words that say where it is."""
    if path.suffix in (".parquet", ".arrow"):
        raise EvaluationError(
            f"{path} is not JSON: export it first, e.g. `python -c \"import pandas; pandas.read_parquet('{path.name}')"
            f".to_json('{path.stem}.jsonl', orient='records', lines=True)\"`"
        )
    text = _text(path)
    # JSON's strings may hold other line ends than these, such as U+2028.
    lines = [line for line in enumerate(re.split(r"\r\n|\n|\r", text), start=1) if line[1].strip()]
    if text.lstrip().startswith("[") or (len(lines) > 1 and lines[0][1].strip() == "{"):
        yield from ((f"{path}, item {number}", row) for number, row in enumerate(_listed(text, path), start=1))
        return
    for number, line in lines:
        row = _parsed(line, f"{path}, line {number}")
        by_id = len(lines) == 1 and isinstance(row, Mapping) and all(isinstance(one, Mapping) for one in row.values())
        yield from ((f"{path}, line {number}", one) for one in (row.values() if by_id else [row]))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST:
            raise EvaluationError(f"{path} is larger than {_MOST:,} bytes: this is no file of tasks")
        data = path.read_bytes()
        return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise EvaluationError(f"there are no tasks at {path}: give a JSON-lines file, or `humaneval`") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} can't be read: {error}") from None


def _listed(text: str, path: Path) -> list[Any]:
    """The tasks of one value over several lines: a list, a mapping by their ids, or one task."""
    value = _parsed(text, str(path))
    if isinstance(value, Mapping) and value and all(isinstance(row, Mapping) for row in value.values()):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _parsed(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # half a character can't be written anywhere again
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: this is not JSON: {error}") from None


def _task(row: Mapping[str, Any], where: str) -> Task:
    """The task of one row. Raises `EvaluationError`."""
    if not isinstance(row, Mapping):
        raise EvaluationError(f"{where}: a task must be a JSON object")
    row = {_ALIASES.get(key, key): value for key, value in row.items()}
    forms: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], Task]], ...] = (
        (frozenset({"task_id", "prompt", "entry_point", "test"}), _humaneval),
        (frozenset({"task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input"}), _evalplus),
        (frozenset({"instance_id", "repo", "problem_statement", "FAIL_TO_PASS"}), _swe_bench),
        (frozenset({"org", "repo", "number", "base", "f2p_tests"}), _multi_swe_bench),
    )
    for needed, read in forms:
        if needed <= row.keys():
            try:
                return read(row)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise EvaluationError(f"{where}: {_words(error)}") from None
    closest, _ = max(forms, key=lambda form: len(form[0] & row.keys()))
    lacking = ", ".join(sorted(closest - row.keys()))
    raise EvaluationError(
        f"{where}: neither HumanEval's form nor SWE-bench's nor Multi-SWE-bench's; the closest lacks {lacking}"
    )


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]


def _said(row: Mapping[str, Any], name: str) -> str:
    """A text that must be there. Raises `ValueError`."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, not {json.dumps(value)[:60]}")
    return value.strip()


def _humaneval(row: Mapping[str, Any]) -> FunctionTask:
    return FunctionTask(
        id=_said(row, "task_id"),
        prompt=row["prompt"],
        entry_point=_said(row, "entry_point"),
        check=row["test"],
        reference=_solution(row) if row.get("canonical_solution") else "",
    )


def _evalplus(row: Mapping[str, Any]) -> FunctionTask:
    name, solution = _said(row, "entry_point"), _solution(row)
    inputs = [*row["base_input"], *row["plus_input"]]
    if not inputs:
        raise ValueError("base_input and plus_input hold no input: nothing can be judged")
    return FunctionTask(
        id=_said(row, "task_id"),
        prompt=row["prompt"],
        entry_point=name,
        check=check_of(name, solution, inputs, float(row.get("atol") or 0)),
        reference=solution,
    )


def _solution(row: Mapping[str, Any]) -> str:
    return f"{row['prompt']}{row['canonical_solution']}"


def _swe_bench(row: Mapping[str, Any]) -> RepositoryTask:
    title, _, body = _said(row, "problem_statement").partition("\n")
    return RepositoryTask(
        id=_said(row, "instance_id"),
        repository=_repository(_said(row, "repo")),
        base_commit=row.get("base_commit") or "",
        title=title.strip(),
        body=body.strip(),
        test_patch=row.get("test_patch") or "",
        fail_to_pass=_names(row["FAIL_TO_PASS"], "FAIL_TO_PASS"),
        pass_to_pass=_names(row.get("PASS_TO_PASS"), "PASS_TO_PASS"),
        reference=row.get("patch") or "",
        fields=_of_images(row),
    )


def _of_images(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: text for key, text in row.items() if _OF_IMAGES.search(key) and isinstance(text, str)}


def _repository(name: str) -> str:
    """owner/name, also of its address on GitHub."""
    return name.removeprefix("https://github.com/").removesuffix("/").removesuffix(".git")


def _multi_swe_bench(row: Mapping[str, Any]) -> RepositoryTask:
    row = {**row, **{name: _decoded(row.get(name)) for name in ("base", "resolved_issues")}}
    issues = row["resolved_issues"] or [{"title": row.get("title"), "body": row.get("body")}]
    if not isinstance(row["base"], Mapping) or not all(isinstance(issue, Mapping) for issue in issues):
        raise ValueError("base must be an object with sha, and resolved_issues a list of objects")
    title, body = _said({"title": issues[0].get("title")}, "title"), [issue.get("body") or "" for issue in issues]
    # Tests that did not exist before, or were skipped, are named apart from those that failed.
    turned = [_names(row.get(name), name) for name in ("f2p_tests", "s2p_tests", "n2p_tests")]
    return RepositoryTask(
        id=row.get("instance_id") or f"{row['org']}__{row['repo']}-{row['number']}",
        repository=f"{row['org']}/{row['repo']}",
        base_commit=row["base"]["sha"],
        title=title,
        body="\n\n".join(str(text).strip() for text in body),
        test_patch=row.get("test_patch") or "",
        fail_to_pass=tuple(dict.fromkeys(name for names in turned for name in names)),
        pass_to_pass=_names(row.get("p2p_tests"), "p2p_tests"),
        reference=row.get("fix_patch") or "",
        fields=_of_images(row),
        pull_request=int(number) if (number := str(row["number"]).removesuffix(".0")).isdecimal() else None,
    )


def _decoded(value: object) -> Any:
    """A value that tables keep as JSON in a string, or as Python writes it. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{value[:60]!r} is no list, as JSON or as Python writes one") from None


def _names(value: object, field: str) -> tuple[str, ...]:
    """Test names: a list, a list in a string, or a mapping whose keys they are; a key without a value is no name."""
    try:
        value = _decoded(value)
    except ValueError as error:
        raise ValueError(f"{field} must be a list of test names: {error}") from None
    if isinstance(value, Mapping):
        value = [name for name, outcome in value.items() if outcome is not None]
    value = [] if value is None else value
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{field} must be a list of test names")
    return tuple(dict.fromkeys(value))
