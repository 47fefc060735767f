"""Hints of CI: what the workflows of GitHub Actions install before their tests, and how they run them."""

import functools
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from bot.recipe.recipe import Hints, Read

_MOST_FILES = 12
_LONGEST = 100_000  # characters of a workflow
_DEEPEST = 50  # brackets within brackets: the parser looks at all that are open for each token
_LIKELY = re.compile(r"(^|[-_.])(tests?|ci|build|python|node|main|unit)([-_.]|$)")
_RUNNERS = (
    *(("python3", "-m", "pytest"), ("python3", "-m", "unittest"), ("python3", "-m", "django", "test")),
    *(("npm", "test"), ("npm", "run", "test"), ("go", "test"), ("cargo", "test"), ("make", "test"), ("make", "check")),
    *(("rspec",), ("rake", "test"), ("rake", "spec"), ("vendor/bin/phpunit",), ("phpunit",), ("composer", "test")),
    *(("prove",), ("busted",)),
)
DJANGO_RUNNERS = ("tests/runtests.py", "runtests.py")
# Of these the runner is any, and the goals are what counts: one that only compiles passes whatever a patch breaks.
_BUILD_TOOLS = ("mvn", "./mvnw", "gradle", "./gradlew")
_GOALS = frozenset(("test", "verify", "check", "install", "package"))
_SKIPS = re.compile(r"-D(?:skipTests|maven\.test\.skip)(?!=false)|--dry-run|-x")
_SHELL = re.compile(r"[|&;<>$`*(){}\\]")


def hints(files: Sequence[str], read: Read) -> Hints:
    """What the workflows tell, those first whose names speak of tests."""
    found, source = _nothing(), ""
    for path, workflow in workflows(files, read):
        before = sum(map(len, found.values()))
        for job in jobs_of(workflow).values():
            for step in steps_of(job):
                _read_step(step, found)
        if not source and sum(map(len, found.values())) > before:
            source = path
    unique = {key: tuple(dict.fromkeys(value)) for key, value in found.items()}
    return Hints.model_validate({"source": source, **unique})


def workflows(files: Sequence[str], read: Read) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and contents of workflows, those first whose names speak of tests. One that can't be read is left out."""
    places = [f for f in files if re.fullmatch(r"\.github/workflows/[^/]+\.ya?ml", f)]
    places.sort(key=lambda path: (not _LIKELY.search(path.rpartition("/")[2].lower()), path))
    for path in places[:_MOST_FILES]:
        if workflow := _content(read(path) or ""):
            yield path, workflow


@functools.lru_cache(maxsize=_MOST_FILES)  # hints and servers are looked for in the same ones; nobody changes them
def _content(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST or _depth(text) > _DEEPEST:
        return {}
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            return {}  # a few lines of them can be a gigabyte
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def jobs_of(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A workflow's jobs by their names."""
    jobs = workflow.get("jobs")
    found = jobs.items() if isinstance(jobs, dict) else ()
    return {str(name): job for name, job in found if isinstance(job, dict)}


def steps_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    """A job's steps in their order."""
    steps = job.get("steps")
    return [step for step in (steps if isinstance(steps, list) else ()) if isinstance(step, dict)]


def runs_tests(step: Mapping[str, Any]) -> bool:
    """Whether a command of the step runs tests."""
    found = _nothing()
    _read_step({key: value for key, value in step.items() if key != "working-directory"}, found)
    return bool(found["tests"])


def _nothing() -> dict[str, list[object]]:
    return {"extras": [], "requirements": [], "packages": [], "tests": []}


def _depth(text: str) -> int:
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    return max(itertools.accumulate(steps, lambda depth, step: max(0, depth + step)), default=0)


def _read_step(step: dict[str, object], found: dict[str, list[object]]) -> None:
    run = step.get("run")
    if not isinstance(run, str):
        return
    folder = step.get("working-directory")
    for line in re.sub(r"\\\n", " ", run).splitlines():
        for command in line.split("&&"):
            _read_command(command.strip(), found, here=not folder)


def _read_command(command: str, found: dict[str, list[object]], *, here: bool) -> None:
    try:
        words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "$", command))
    except ValueError:
        return
    words = [word for i, word in enumerate(words) if word != "sudo" or i]
    if "install" in words and any(word in ("pip", "pip3") for word in words[:4]):
        for before, word in zip(["", *words], words, strict=False):
            if before in ("-r", "--requirement"):
                found["requirements"].append(word)
            elif extras := re.fullmatch(r"(?:-e)?\.?/?\.?\[([\w,\s.-]+)\]", word):
                found["extras"] += [name.strip() for name in extras[1].split(",")]
    elif words[:2] in (["apt-get", "install"], ["apt", "install"]) or words[:3] == ["apt-get", "-y", "install"]:
        found["packages"] += [
            word for word in words[2:] if re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", word) and word != "install"
        ]
    elif here and (test := as_test(words)):
        found["tests"].append(test)


def as_test(words: Sequence[str]) -> tuple[str, ...] | None:
    """The command as an argv that runs tests; None where it runs something else, or needs a shell."""
    for prefix in (["uv", "run"], ["poetry", "run"], ["pdm", "run"], ["hatch", "run"], ["pipenv", "run"]):
        if words[:2] == prefix:
            words = words[2:]
    if words[:2] == ["coverage", "run"]:  # its own options come first
        rest = list(itertools.dropwhile(lambda word: word.startswith("-") and word != "-m", words[2:]))
        words = ["python3", *rest]
    if words[:1] in (["pytest"], ["py.test"], ["django-admin"]):
        words = ["python3", "-m", {"py.test": "pytest", "django-admin": "django"}.get(words[0], words[0]), *words[1:]]
    elif words[:1] == ["python"]:
        words = ["python3", *words[1:]]
    if len(words) > 30 or any(_SHELL.search(word) for word in words):
        return None
    options = tuple(word for word in words if not word.startswith("--cov"))  # a plugin that may not be there
    return options if _runs_tests(options[2:] if options[:2] == ("bundle", "exec") else options) else None


def _runs_tests(words: Sequence[str]) -> bool:
    if words[:1] and words[0] in ("bin/rails", "rails"):
        return not {"test", "test:all", "spec"}.isdisjoint(words)
    if words[:1] and words[0] in _BUILD_TOOLS:
        return not _GOALS.isdisjoint(words) and not any(map(_SKIPS.match, words))
    # Of Python's options none decides what is run: `python -Wall manage.py test`.
    words = [*words[:1], *itertools.dropwhile(re.compile(r"-(?!m\b)[a-zA-Z]\S*").fullmatch, words[1:])]
    if words[:1] == ["python3"] and django_script(words[1:]):
        return True
    return any(tuple(words[: len(runner)]) == runner for runner in _RUNNERS)


def django_script(words: Sequence[str]) -> bool:
    """Whether these words, behind `python`, are a script of the repository's that gives Django's tests to unittest."""
    script, argument = [*words[:2], "", ""][:2]
    return script in DJANGO_RUNNERS or (script.rpartition("/")[2] == "manage.py" and argument == "test")
