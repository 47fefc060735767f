"""Commands that run a repository's own tests, and what their runners print. Pure."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from bot.records import Ending, Execution, NotCompared
from bot.retrieval.related_tests import related
from bot.solver.django_tests import django_command, knows_settings, labels_of, with_labels
from bot.solver.npm_script import last_step, npm_test
from bot.solver.runner_lines import ENDED, FAILURES, PYTEST_SUM, SUMS, readable, uncoloured

Command = tuple[str, ...]

PYTEST: Command = (
    *("python3", "-m", "pytest", "-v", "-rfE", "--tb=line", "-p", "no:cacheprovider"),  # a line a test: see `so_far`
    "--continue-on-collection-errors",  # else one file that can't be imported keeps all others from running
)
# Without the options of the configuration, which may need plugins that are not there (`--cov`), or make errors of what
# a newer pytest warns of.
PYTEST_ALONE: Command = (*PYTEST, "-o", "addopts=", "-o", "required_plugins=", "-o", "filterwarnings=")
UNITTEST: Command = ("python3", "-m", "unittest", "discover", "-v")
_QUOTED = 200  # characters of what a runner printed

_PYTHON_TEST = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|tests)\.py$")
_PHPUNIT = ("phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml")
_SCRIPT_TEST = re.compile(r"(?:^|[/._])(?:test|spec)\.[cm]?[jt]sx?$")
_RUBY_TEST = re.compile(r"^(test|tests)/.*\.rb$")
_MAKE_TEST = re.compile(r"^(test|check)\s*:(?!=)", re.MULTILINE)


def detect(files: Sequence[str], read: Callable[[str], str | None]) -> tuple[Command, ...]:
    """Commands that may run the repository's tests, the likeliest first, by its files. Pure.

    `files`: its paths; `read`: the text of a file, such as `package.json`.
    """
    names = set(files)
    found: list[Command] = []
    if any(_PYTHON_TEST.search(path) for path in files):
        found += [PYTEST, PYTEST_ALONE, UNITTEST]
    if (of_django := django_command(files, read)) is not None:
        found.insert(2 if knows_settings(files, read) else 0, of_django)
    if "Cargo.toml" in names:
        found.append(("cargo", "test", "--offline", "--no-fail-fast"))
    if "go.mod" in names and any(path.endswith("_test.go") for path in files):
        found.append(("go", "test", "./...", "-v"))
    if "package.json" in names and (of_npm := npm_test(read("package.json") or "")):
        found.append(of_npm)
    found += _of_bun_and_deno(files, read)
    found += _of_scripts(files, read)
    makefile = next((name for name in ("GNUmakefile", "makefile", "Makefile") if name in names), None)
    targets = _MAKE_TEST.findall(read(makefile) or "") if makefile else []
    found += [("make", max(targets))] if targets else []  # `test` rather than `check`, which may ask for a style
    return tuple(found)


def _of_bun_and_deno(files: Sequence[str], read: Callable[[str], str | None]) -> Iterator[Command]:
    """Where these are the repository's, which may have no npm."""
    names = set(files)
    tests = any(map(_SCRIPT_TEST.search, files))
    if names & {"bun.lock", "bun.lockb", "bunfig.toml"}:
        script = npm_test(read("package.json") or "")
        yield from [("bun", "run", "test")] if script else []
        yield from [("bun", "test")] if tests else []
    if names & {"deno.json", "deno.jsonc", "deno.lock"} and tests:
        yield ("deno", "test", "--allow-all", "--no-prompt")


def _of_scripts(files: Sequence[str], read: Callable[[str], str | None]) -> Iterator[Command]:
    """Of Ruby, PHP, Perl, Lua and Elixir."""
    names = set(files)
    bundle = [("bundle", "exec"), ()] if "Gemfile" in names else [()]
    rails = {"bin/rails", "config/application.rb"} <= names  # whose tests need a database with the schema in it
    if any(path.startswith("spec/") and path.endswith(".rb") for path in files):
        yield from [("sh", "-c", "ruby bin/rails db:test:prepare && bundle exec rspec")] if rails else []
        yield from ((*before, "rspec") for before in bundle)
    elif rails and any(map(_RUBY_TEST.match, files)):
        yield from (("ruby", "bin/rails", "db:test:prepare", "test", "-v"), ("ruby", "bin/rails", "test", "-v"))
    elif {"Rakefile", "rakefile", "Rakefile.rb"} & names and any(_RUBY_TEST.search(path) for path in files):
        yield from ((*before, "rake", "test") for before in bundle)
    if any(path.endswith("Test.php") for path in files):
        loads = any("bootstrap=" in (read(name) or "") for name in _PHPUNIT if name in names)
        autoload = () if loads or "composer.json" not in names else ("--bootstrap", "vendor/autoload.php")
        yield ("vendor/bin/phpunit", "--no-coverage")
        yield ("phpunit", "--no-coverage", *autoload)
    if any(path.startswith("t/") and path.endswith(".t") for path in files):
        compiled = any(path.endswith(".xs") for path in files)
        yield ("sh", "-c", "perl Makefile.PL && make && prove -br t") if compiled else ("prove", "-lr", "t")
    if ".busted" in names or any(path.endswith("_spec.lua") for path in files):
        yield ("busted", "-o", "TAP")
    if "mix.exs" in names and any(path.endswith("_test.exs") for path in files):
        yield ("mix", "test")


def failing(execution: Execution) -> tuple[str, ...] | None:
    """The failing tests that the runner's output names; () where all passed; None where it names none.

    None as well where output was left out, unless pytest's summary is whole, or the run did not end by itself: an
    incomplete list proves nothing.
    """
    if execution.results is not None:
        return execution.results.failed
    if execution.passed:
        return ()
    output = readable(execution.output)
    hole = output.rfind(_LEFT_OUT)
    whole = not execution.truncated or -1 < hole < output.rfind(_SUMMARY)
    if execution.ending is not Ending.EXITED or not whole:
        return None
    for pattern in FAILURES:
        # What is printed while tests run may be a candidate's own words: of pytest only the summary counts.
        begins = output.rfind(_SUMMARY) if pattern is FAILURES[0] else 0
        names = dict.fromkeys(" ".join(name.split()) for name in pattern.findall(output, max(begins, 0)))
        if names:
            return tuple(names)
    return None


_SUMMARY = "= short test summary info ="
_LEFT_OUT = "bytes left out ...]"

_PASSED = ("PASSED", "PASS", "Passed", "pass", "ok", "OK", ".", "\u2713", "\u2714", "\u221a")
_BEGUN = re.compile(
    r"^((?>\S+?::)\S(?:.*\S)?)\s*\Z|^(\w+ \([\w.]+\))(?:\n[^\n]+?)? \.\.\.\s*\Z|^=== RUN +(\S+)\s*\Z"
    r"|^(collecting \.\.\.)\s*\Z",  # a file of tests does not end when it is imported
    re.MULTILINE,
)


def so_far(execution: Execution) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tests that passed and those that failed, as far as the output names them one by one.

    A name that several tests have is there as often as it passed.
    """
    output = readable(execution.output)
    for pattern in ENDED:
        ended = [(found["name"], found["word"] in _PASSED) for found in pattern.finditer(output)]
        if ended:
            failed = dict.fromkeys(name for name, well in ended if not well)  # whatever else is said of them
            return tuple(name for name, well in ended if well and name not in failed), tuple(failed)
    return (), ()


def under_way(execution: Execution) -> str:
    """The test that ran when the output ended, or `collecting ...`; "" where the runner names none."""
    found = _BEGUN.search(execution.output)
    return next(filter(None, found.groups()), "") if found else ""


_UNIMPORTED = re.compile(r"^ERROR (?!\()([^\s:]+)(?= - |$)|^ERROR: (\S+) \(unittest\.loader\._FailedTest", re.MULTILINE)


def unimported(execution: Execution) -> tuple[str, ...]:
    """The files (or modules) of tests that the runner could not import."""
    found = _UNIMPORTED.findall(execution.output)
    return tuple(dict.fromkeys(one or other for one, other in found))


_GO = re.compile(r"^(?:ok|FAIL|---|\?)\s+\S+.*$", re.MULTILINE)
_NONE_RAN = re.compile(
    r"^.*(?:no tests ran|No tests? (?:files? )?found|No tests executed|No tests were found).*$", re.M | re.I
)


def ran(execution: Execution) -> int | None:
    """How many tests ran, skipped ones left out; None where the output does not say."""
    output = uncoloured(execution.output)
    if sums := PYTEST_SUM.findall(output):
        counts = re.findall(r"(?<!\d)(\d{1,9}) (passed|failed|xfailed|xpassed)", sums[-1])
        return sum(int(count) for count, _ in counts)
    for pattern in SUMS:
        if counts := pattern.findall(output):
            return sum(map(int, counts))
    lines = _GO.findall(output)
    if lines and all("[no test" in line for line in lines):
        return 0
    return 0 if _NONE_RAN.search(output) and not lines else None


def counted(execution: Execution) -> str:
    """`240 passed, 3 failed`, as far as the output says; "" where it does not."""
    if sums := PYTEST_SUM.findall(execution.output):
        return str(sums[-1])
    passed, failed = so_far(execution)
    said = [f"{len(passed):,} passed"] if passed else []
    return ", ".join(said + ([f"{len(failed):,} failed"] if failed else []))


_NOT_LOADED = re.compile(r"^ERROR: \S+ \(unittest\.loader\._FailedTest\b", re.MULTILINE)
_GONE = re.compile(
    r"^(?:\S{0,300}python\S{0,30}: No module named \S+|make: .*Error 127"
    r"|make: \*\*\* No rule to make target '(?:check|test)'.*"
    r"|(?:/bin/)?(?:sh|bash): .*(?:not found|No such file).*|bundler: (?:failed to load command|command not found).*"
    r"|Could not find (?:gem|compatible versions|\S+-\d).*|Could not locate Gemfile.*|Don't know how to build task.*"
    r"|rake aborted!\nLoadError:.*|Could not open input file: .*)$",
    re.MULTILINE,
)


def absence(command: Command, execution: Execution) -> tuple[NotCompared, str] | None:
    """Why nothing was tested, and what the runner printed of it; None where tests ran.

    The runner is not there, refuses its own configuration, or finds no test.
    """
    output = execution.output
    end = execution.tail(1, _QUOTED)
    if execution.ending is Ending.UNAVAILABLE:
        return NotCompared.NOT_RUN, end or execution.status
    if execution.ending is Ending.TIMED_OUT:
        return None
    if "No module named pytest" in output:
        return NotCompared.NO_PYTEST, end
    if not execution.passed and (gone := _GONE.search(output)) and ran(execution) is None:
        return NotCompared.NOT_RUN, gone[0][:_QUOTED]
    if execution.exit_code in (126, 127):  # of a shell
        return NotCompared.NOT_RUN, end or execution.status
    if execution.exit_code == 4 and _is_pytest(command):  # a usage error, or a conftest.py that can't be imported
        return NotCompared.NOT_RUN, complaint(execution)
    found = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    errors = re.search(r"^FAILED \(errors=(\d+)(?:, skipped=\d+)?\)", output, re.MULTILINE)
    summary = re.search(r"^=*[ \t]*(\d+ errors? in [\d.]+s[^=\n]*)=*$", output, re.MULTILINE)
    # Classes that can't be set up are errors, too, and none of the tests that ran.
    if found and errors and (errors[1] == found[1] or len(_NOT_LOADED.findall(output)) == int(found[1]) > 0):
        return NotCompared.NOT_RUN, f"{found[0]}, {errors[1]} errors"
    if summary:
        return NotCompared.NOT_RUN, summary[1].rstrip()
    if ran(execution) == 0:
        sums = PYTEST_SUM.search(output)
        said = _NONE_RAN.search(output)
        return NotCompared.NO_TESTS, (sums[0] if sums else said[0] if said else end).strip(" =")[:_QUOTED]
    return None


def complaint(execution: Execution) -> str:
    """The last line of the output that speaks of an error, or its last line."""
    lines = [line.strip() for line in uncoloured(execution.output).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"error\b", line, re.IGNORECASE)]
    return (errors or lines or [""])[-1][:_QUOTED]


def _is_pytest(command: Command) -> bool:
    return any(PurePosixPath(word).name in ("pytest", "py.test") for word in command[:6])


# -- some files of tests alone -------------------------------------------------------------------------------------

_OF_PYTEST = frozenset(  # options whose value is the next word
    (
        "-k",
        "-m",
        "-p",
        "-c",
        "-o",
        "-W",
        "-n",
        "--rootdir",
        "--confcutdir",
        "--ignore",
        "--maxfail",
        "--import-mode",
        "--tb",
    )
)


RELATED = 4  # files of tests that are run for one patch before all others


def related_tests(paths: Sequence[str], tests: Mapping[str, str]) -> dict[str, str]:
    """The tests (text by path) that are most likely about the files with these paths."""
    return {path: tests[path] for path in related(paths, tests)[:RELATED]}


def program_at(command: Command) -> int:
    """Where the program stands, behind the variables that are set for it; the command's length where there is none."""
    return next((i for i, word in enumerate(command) if "=" not in word and word != "env"), len(command))


def narrowed(command: Command, tests: Mapping[str, str]) -> Command | None:
    """The command for some files of tests alone (text by path); None where it is not known how to run those."""
    first = program_at(command)
    before, words = command[:first], command[first:]
    names = [PurePosixPath(word).name for word in words]
    python = [path for path in tests if path.endswith(".py")]
    at = next((i for i, name in enumerate(names) if name in ("pytest", "py.test")), None)
    if at is not None:
        return (*before, *words[: at + 1], *_options(words[at + 1 :]), *python) if python else None
    if names[1:3] == ["-m", "unittest"]:
        return (*before, *words[:3], "-v", *python) if python else None
    if (labelled := with_labels(words, labels_of(words, python))) is not None:
        return (*before, *labelled)
    if names[:2] == ["go", "test"]:
        folders = dict.fromkeys(f"./{PurePosixPath(path).parent}" for path in tests if path.endswith("_test.go"))
        return (*before, "go", "test", "-v", *folders) if folders else None
    if names[:2] == ["cargo", "test"]:
        whole = [
            PurePosixPath(p).stem for p in tests if PurePosixPath(p).parts[:-1] == ("tests",) and p.endswith(".rs")
        ]
        chosen = [word for stem in whole for word in ("--test", stem)]
        return (*before, "cargo", "test", "--offline", "--no-fail-fast", *chosen) if chosen else None
    if names[:1] in (["mvn"], ["mvnw"]) or names[1:2] == ["mvnw"]:
        classes = [PurePosixPath(path).stem for path in tests if path.endswith((".java", ".kt", ".groovy"))]
        # A module without any of them is no fault.
        none = ("-DfailIfNoTests=false", "-Dsurefire.failIfNoSpecifiedTests=false")
        return (*command, f"-Dtest={','.join(classes)}", *none) if classes else None
    return _of_script(command, names, tests) or _of_node(command, names, tests)


def _of_script(command: Command, names: Sequence[str], tests: Mapping[str, str]) -> Command | None:
    """Of the commands of `_of_scripts`; None for others."""

    def of(ending: str) -> list[str]:
        return [path for path in tests if path.endswith(ending)]

    program = next((name for name in names if name not in ("bundle", "exec")), "")
    if program == "rspec" and (paths := of(".rb")):
        return (*command, *paths)
    if command[-2:] == ("rake", "test") and (paths := of(".rb")):
        return (*command, f"TEST={{{','.join(paths)}}}")
    if program == "phpunit" and (paths := of(".php")):
        return (*command, "--filter", rf"\b({'|'.join(PurePosixPath(path).stem for path in paths)})::")
    if command[:3] == ("prove", "-lr", "t") and (paths := of(".t")):
        return ("prove", "-l", *paths)
    if program == "busted" and (paths := of(".lua")):
        return (*command, *paths)
    if command[:2] == ("mix", "test") and (paths := of("_test.exs")):
        return (*command, *paths)
    return None


def _of_node(command: Command, names: Sequence[str], tests: Mapping[str, str]) -> Command | None:
    own = [path for path, text in tests.items() if "node:test" in text]
    if own and names[:1] in (["npm"], ["node"], ["yarn"], ["pnpm"]):
        return ("node", "--test", "--test-reporter=tap", *own)
    script = re.compile(r"\.[cm]?[jt]sx?")
    paths = [path for path in tests if script.fullmatch(PurePosixPath(path).suffix)]
    if paths and names[:2] in (["bun", "test"], ["deno", "test"]):  # of bun, other words than paths are parts of names
        return (*command, *(f"./{path}" for path in paths))
    if paths and names[1:2] == ["test"] and names[0] in ("npm", "yarn", "pnpm"):
        # Jest, Vitest, Mocha and AVA, one of which the script calls last as a rule, take files.
        return (*command, *(["--"] if names[0] == "npm" else []), *paths)
    if paths and names[:2] == ["npm", "exec"] and command[-2:-1] == ("-c",):
        return (*command[:-1], f"{last_step(command[-1])} {shlex.join(paths)}")
    return None


def _options(words: Sequence[str]) -> list[str]:
    """The options among the arguments of pytest, without the files and folders that it is to run."""
    kept: list[str] = []
    for i, word in enumerate(words):
        if word == "--tb=line":  # of a few files, a model is to see more of each failure
            kept.append("--tb=short")
        elif word.startswith("-"):
            kept += words[i : i + 2] if word in _OF_PYTEST else [word]
    return kept
