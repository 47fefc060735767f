"""Tasks of public benchmarks, as their files hold them: HumanEval's form, SWE-bench's and Multi-SWE-bench's. Pure but
for reading the file.

HumanEval: arXiv 2107.03374. SWE-bench: arXiv 2310.06770; `FAIL_TO_PASS` and `PASS_TO_PASS` are lists, or strings that
hold a JSON list. Multi-SWE-bench: arXiv 2504.02605; its tests are named by outcome in `f2p_tests` and `p2p_tests`.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.errors import EvaluationError, ModelMissing
from bot.llm.published_models import HUMANEVAL
from bot.records import Record

_MOST = 2 << 30  # bytes of a file


class FunctionTask(Record):
    """One function to be written, judged by a check that is never shown."""

    id: str
    prompt: str  # signature and docstring
    entry_point: str
    check: str  # Python that defines `check(candidate)`


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


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each object of the file, with the words that say where it is."""
    if path.suffix in (".parquet", ".arrow"):
        raise EvaluationError(
            f"{path} is not JSON: export it first, e.g. `python -c \"import pandas; pandas.read_parquet('{path.name}')"
            f".to_json('{path.stem}.jsonl', orient='records', lines=True)\"`"
        )
    try:
        if path.stat().st_size > _MOST:
            raise EvaluationError(f"{path} is larger than {_MOST:,} bytes: this is no file of tasks")
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except FileNotFoundError:
        raise EvaluationError(f"there are no tasks at {path}: give a JSON-lines file, or `humaneval`") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} can't be read: {error}") from None
    if text.lstrip().startswith("["):
        rows = _parsed(text, str(path))
        yield from ((f"{path}, item {number}", row) for number, row in enumerate(rows, start=1))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}, line {number}", _parsed(line, f"{path}, line {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: this is not JSON: {error}") from None


def _task(row: Mapping[str, Any], where: str) -> Task:
    """The task of one row. Raises `EvaluationError`."""
    if not isinstance(row, Mapping):
        raise EvaluationError(f"{where}: a task must be a JSON object")
    forms: tuple[tuple[frozenset[str], Callable[[Mapping[str, Any]], Task]], ...] = (
        (frozenset({"task_id", "prompt", "entry_point", "test"}), _humaneval),
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
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]


def _humaneval(row: Mapping[str, Any]) -> FunctionTask:
    return FunctionTask(id=row["task_id"], prompt=row["prompt"], entry_point=row["entry_point"], check=row["test"])


def _swe_bench(row: Mapping[str, Any]) -> RepositoryTask:
    title, _, body = row["problem_statement"].strip().partition("\n")
    return RepositoryTask(
        id=row["instance_id"],
        repository=row["repo"],
        base_commit=row.get("base_commit") or "",
        title=title.strip(),
        body=body.strip(),
        test_patch=row.get("test_patch") or "",
        fail_to_pass=_names(row["FAIL_TO_PASS"], "FAIL_TO_PASS"),
        pass_to_pass=_names(row.get("PASS_TO_PASS") or [], "PASS_TO_PASS"),
        reference=row.get("patch") or "",
    )


def _multi_swe_bench(row: Mapping[str, Any]) -> RepositoryTask:
    issues = row.get("resolved_issues") or [{"title": row.get("title"), "body": row.get("body")}]
    return RepositoryTask(
        id=row.get("instance_id") or f"{row['org']}__{row['repo']}-{row['number']}",
        repository=f"{row['org']}/{row['repo']}",
        base_commit=row["base"]["sha"],
        title=str(issues[0].get("title") or "").strip(),
        body="\n\n".join(str(issue.get("body") or "").strip() for issue in issues),
        test_patch=row.get("test_patch") or "",
        fail_to_pass=_names(row["f2p_tests"], "f2p_tests"),
        pass_to_pass=_names(row.get("p2p_tests") or {}, "p2p_tests"),
        reference=row.get("fix_patch") or "",
    )


def _names(value: object, field: str) -> tuple[str, ...]:
    """Test names: a list, a JSON list in a string, or a mapping whose keys they are."""
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, list | dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{field} must be a list of test names")
    return tuple(value)
