import asyncio
import json
from pathlib import Path

import pytest

from bot.contracts import Follow
from bot.errors import SandboxError
from bot.lifecycle import RunState
from bot.records import Ballot, Ending, Execution, FileChange, NotCompared, OwnTestsReport, Patch, Results, SandboxJob
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings, SolverSettings
from bot.solver.ballot import count
from bot.solver.comparison import time_for, told
from bot.solver.harness import Harness
from bot.solver.single_tests import alone, chosen
from bot.solver.stages import own_tests
from bot.solver.stages.own_tests import on_base, run_own_tests
from bot.solver.stages.watched import Watched
from bot.solver.test_runners import PYTEST, PYTEST_ALONE, UNITTEST, detect, failing, narrowed, ran, so_far, under_way
from tests.bot.solver.ballots import ballot
from tests.demo import load
from tests.fakes import FAILED, PASSED, FakeProgress, FakeSandbox, exited


def found(files: dict[str, str]) -> list[str]:
    return [" ".join(command[:3]) for command in detect(sorted(files), files.get)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"pkg/a.py": ""}, []),
        ({"pkg/a.py": "", "tests/test_a.py": ""}, ["python3 -m pytest", "python3 -m pytest", "python3 -m unittest"]),
        ({"pkg/a_test.py": ""}, ["python3 -m pytest", "python3 -m pytest", "python3 -m unittest"]),
        ({"pkg/contest.py": "", "latest.py": ""}, []),
        ({"package.json": json.dumps({"scripts": {"test": "jest"}})}, ["npm test --silent"]),
        ({"package.json": json.dumps({"scripts": {"test": 'echo "Error: no test specified" && exit 1'}})}, []),
        ({"package.json": "{"}, []),
        ({"package.json": "[]"}, []),
        ({"Cargo.toml": "", "src/lib.rs": ""}, ["cargo test --offline"]),
        ({"go.mod": "", "a_test.go": ""}, ["go test ./..."]),
        ({"go.mod": "", "a.go": ""}, []),
        ({"Makefile": "all:\n\ntest: all\n\t./run\n"}, ["make test"]),
        ({"Makefile": "test := 1\nlatest:\n"}, []),
        ({"Makefile": "check:\n\ttrue\n"}, ["make check"]),
        ({"Makefile": "check:\n\tlint\ntest:\n\t./run\n"}, ["make test"]),
        ({"spec/a_spec.rb": ""}, ["rspec"]),
        ({"spec/a_spec.rb": "", "Gemfile": "", "Rakefile": ""}, ["bundle exec rspec", "rspec"]),
        ({"test/a/test_b.rb": "", "Gemfile": "", "Rakefile": ""}, ["bundle exec rake", "rake test"]),
        ({"test/test_a.rb": ""}, []),
        (
            {"test/models/a_test.rb": "", "bin/rails": "", "config/application.rb": "", "Rakefile": "", "Gemfile": ""},
            ["ruby bin/rails db:test:prepare", "ruby bin/rails test"],
        ),
        (
            {"spec/models/a_spec.rb": "", "bin/rails": "", "config/application.rb": "", "Gemfile": ""},
            ["sh -c ruby bin/rails db:test:prepare && bundle exec rspec", "bundle exec rspec", "rspec"],
        ),
        ({"tests/Unit/ATest.php": ""}, ["vendor/bin/phpunit --no-coverage", "phpunit --no-coverage"]),
        ({"t/a.t": "", "lib/A.pm": ""}, ["prove -lr t"]),
        ({"t/a.t": "", "A.xs": ""}, ["sh -c perl Makefile.PL && make && prove -br t"]),
        ({"spec/a_spec.lua": ""}, ["busted -o TAP"]),
        ({"mix.exs": "", "test/a_test.exs": ""}, ["mix test"]),
        ({"bun.lock": "", "src/a.test.ts": "", "package.json": "{}"}, ["bun test"]),
        (
            {"bun.lock": "", "src/a.test.ts": "", "package.json": '{"scripts": {"test": "bun test"}}'},
            ["npm test --silent", "bun run test", "bun test"],
        ),
        ({"deno.json": "", "src/a_test.ts": ""}, ["deno test --allow-all"]),
        ({"deno.json": "", "src/attest.ts": ""}, []),
    ],
)
def test_detection_by_the_files_alone(files: dict[str, str], expected: list[str]) -> None:
    assert found(files) == expected


@pytest.mark.parametrize("command", ["bun test", "deno test --allow-all --no-prompt"])
def test_of_bun_and_deno_some_files_alone(command: str) -> None:
    tests = {"src/a.test.ts": "", "docs/a.md": ""}
    assert narrowed(tuple(command.split()), tests) == (*command.split(), "./src/a.test.ts")


def test_phpunit_of_the_system_is_told_what_loads_classes() -> None:
    files = {"tests/ATest.php": "", "composer.json": "{}", "phpunit.xml.dist": "<phpunit/>"}
    loads = ("phpunit", "--no-coverage", "--bootstrap", "vendor/autoload.php")
    assert detect(sorted(files), files.get)[-1] == loads
    files["phpunit.xml.dist"] = '<phpunit bootstrap="tests/load.php"/>'
    assert detect(sorted(files), files.get)[-1] == loads[:2]


PYTEST_OUTPUT = """\
.F..E                                                                    [100%]
=========================== short test summary info ============================
FAILED tests/test_a.py::test_x - AssertionError: assert 1 == 2
FAILED tests/test_a.py::test_y[1-a b] - ValueError
FAILED tests/test_a.py::TestZ::test_z
ERROR tests/test_b.py
3 failed, 2 passed, 1 error in 0.10s
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            PYTEST_OUTPUT,
            (
                "tests/test_a.py::test_x",
                "tests/test_a.py::test_y[1-a b]",
                "tests/test_a.py::TestZ::test_z",
                "tests/test_b.py",
            ),
        ),
        (
            "FAIL: test_a (t.T.test_a)\n----\nERROR: test_b (t.T.test_b)\n\nFAILED (failures=1, errors=1)\n",
            ("test_a (t.T.test_a)", "test_b (t.T.test_b)"),
        ),
        ("=== RUN TestA\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/b (0.00s)\nFAIL\n", ("TestA", "TestA/b")),
        ("test a::b ... FAILED\ntest a::c ... ok\n", ("a::b",)),
        ("ok 1 - a\nnot ok 2 - b c\n", ("b c",)),
        (
            "[ERROR] Tests run: 3, Failures: 2, Errors: 1, Skipped: 0, Time elapsed: 0.1 s <<< FAILURE! - in a.BTest\n"
            "[ERROR] low(a.BTest)  Time elapsed: 0.004 s  <<< FAILURE!\njava.lang.AssertionError\n"
            "[ERROR] a.BTest.high -- Time elapsed: 0,004 s <<< ERROR!\n"
            "old(a.CTest)  Time elapsed: 0 sec  <<< FAILURE!\n",
            ("low(a.BTest)", "a.BTest.high", "old(a.CTest)"),
        ),
        ("> Task :test FAILED\n\na.BTest > low() FAILED\n    AssertionError at BTest.java:9\n", ("a.BTest > low()",)),
        ("Segmentation fault\n", None),
        ("ERROR: file or directory not found: tests\n", None),
    ],
)
def test_failing_tests_by_name(output: str, expected: tuple[str, ...] | None) -> None:
    assert failing(Execution(ending=Ending.EXITED, exit_code=1, output=output)) == expected


def test_tests_of_maven_are_counted_by_module() -> None:
    of_class = "[INFO] Tests run: 2, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.09 s - in a.BTest\n"
    sums = "".join(f"[INFO] Tests run: {count}, Failures: 0, Errors: 0, Skipped: 0\n" for count in (2, 3))
    assert ran(exited(0, of_class + sums)) == 5


def test_a_list_with_holes_proves_nothing() -> None:
    assert failing(PASSED) == ()
    assert failing(Execution(ending=Ending.EXITED, exit_code=1, output=PYTEST_OUTPUT, truncated=True)) is None
    assert failing(Execution(ending=Ending.TIMED_OUT, output=PYTEST_OUTPUT)) is None


def said(*names: str) -> Execution:
    return exited(1, "".join(f"FAILED {name} - boo\n" for name in names))


async def run(b: Ballot, judge: FakeSandbox, commands: tuple[tuple[str, ...], ...] = (("pytest",),)) -> OwnTestsReport:
    settings = SolverSettings(own_tests_candidates=2, own_tests_timeout=11.0)
    base = asyncio.ensure_future(on_base(commands, judge, settings))
    return await run_own_tests(b, count(b), base, Harness(judge, settings, FakeProgress()))


def on(results: dict[int | None, Execution], b: Ballot) -> FakeSandbox:
    """By candidate index, None for the base commit."""
    index = {candidate.patch.changes: i for i, candidate in enumerate(b.candidates)}
    return FakeSandbox(lambda job: results[index.get(job.changes)])


BALLOT = ballot("...", "+++", "++.", "+..", "...")  # best first; the last is not credible


async def test_base_and_the_best_credible_candidates_are_run() -> None:
    judge = on({None: PASSED, 0: said("t::a"), 1: PASSED}, BALLOT)
    report = await run(BALLOT, judge)
    assert [c for c, _ in report.candidates] == [0, 1]
    assert {job.timeout for job in judge.jobs} == {11.0}
    standings = count(BALLOT, report)
    assert [s.candidate for s in standings] == [1, 2, 3, 0]
    assert standings[-1].regressions == ("t::a",)


async def test_where_all_of_a_batch_break_something_the_next_are_tried() -> None:
    report = await run(BALLOT, on({None: PASSED, 0: said("a"), 1: said("b"), 2: PASSED}, BALLOT))
    assert [c for c, _ in report.candidates] == [0, 1, 2]


async def test_the_first_command_that_can_run_is_taken() -> None:
    def answer(job: SandboxJob) -> Execution:
        if job.command == PYTEST:
            return Execution(ending=Ending.EXITED, exit_code=1, output="python3: No module named pytest\n")
        return PASSED

    report = await run(BALLOT, FakeSandbox(answer), (PYTEST, UNITTEST))
    assert report.command == UNITTEST
    assert report.compared


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        pytest.param((4, 4), (90, 0), 0, id="as many pass as fail"),
        pytest.param((3, 20), (90, 2), 1, id="another runner does better"),
        pytest.param((0, 20), (5, 2), 1, id="none passes"),
        pytest.param((3, 20), (2, 30), 0, id="another is worse"),
        pytest.param((3, 20), (2, 0), 0, id="another runs fewer"),
    ],
)
async def test_where_most_tests_fail_the_command_under_which_most_pass_is_taken(
    first: tuple[int, int], second: tuple[int, int], taken: int
) -> None:
    commands = (PYTEST, UNITTEST)

    def answer(job: SandboxJob) -> Execution:
        good, bad = first if job.command == PYTEST else second
        results = Results(
            passed=tuple(f"t::{n}" for n in range(good)), failed=tuple(f"t::bad{n}" for n in range(bad)), ended=True
        )
        return exited(1, "").model_copy(update={"results": results})

    report = await run(BALLOT, FakeSandbox(answer), commands)
    assert report.command == commands[taken]


@pytest.mark.parametrize(
    ("seconds", "times"),
    [
        pytest.param(3.0, [11.0, 8.0, 5.0], id="all begin within the time"),
        pytest.param(4.0, [11.0, 7.0], id="the third would not end"),
        pytest.param(6.0, [11.0], id="neither would the second"),
        pytest.param(11.0, [11.0], id="stopped"),
    ],
)
async def test_commands_under_which_most_tests_fail_share_the_time_of_one(seconds: float, times: list[float]) -> None:
    results = Results(passed=("a",), failed=("b", "c"), ended=True)
    poor = exited(1, "").model_copy(update={"results": results, "seconds": seconds})
    judge = FakeSandbox(lambda job: poor)
    report = await on_base((PYTEST, PYTEST_ALONE, UNITTEST), judge, SolverSettings(own_tests_timeout=11.0))
    assert report.command == PYTEST
    assert [job.timeout for job in judge.jobs] == times


async def test_what_can_not_be_run_is_said_and_never_counted() -> None:
    gone = Execution(ending=Ending.UNAVAILABLE, exit_code=127, output="npm: not found")
    report = await run(BALLOT, FakeSandbox(lambda job: gone), (("npm", "test"),))
    assert (report.not_compared, report.tried, report.detail) == (
        NotCompared.NOT_RUN,
        ("npm", "test"),
        "npm: not found",
    )
    assert count(BALLOT, report) == count(BALLOT)


async def test_unnamed_failures_on_base_can_not_be_compared() -> None:
    report = await run(BALLOT, FakeSandbox(lambda job: FAILED))
    assert (report.not_compared, report.detail) == (NotCompared.UNNAMED_FAILURES, "exit 1")
    assert report.candidates == ()
    said = exited(101, "Compiling\nerror: package `mill` requires rustc 1.80\nEither upgrade, or don't\n")
    report = await run(BALLOT, FakeSandbox(lambda job: said))
    assert report.detail == "exit 101: error: package `mill` requires rustc 1.80"
    report = await run(BALLOT, FakeSandbox(lambda job: exited(1, "\x1b[31mno luck\x1b[0m\n\n")))
    assert report.detail == "exit 1: no luck"


async def test_a_command_that_tells_nothing_leaves_the_next_one_to_try() -> None:
    results = {("npm", "test"): FAILED, ("make", "test"): PASSED}
    report = await run(BALLOT, FakeSandbox(lambda job: results[job.command]), (("npm", "test"), ("make", "test")))
    assert report.command == ("make", "test")
    assert report.compared


async def test_a_sandbox_error_is_said() -> None:
    def answer(job: SandboxJob) -> Execution:
        raise SandboxError("gone")

    assert (await run(BALLOT, FakeSandbox(answer))).not_compared is NotCompared.SANDBOX_FAILED


async def test_no_candidate_is_run_for_nothing() -> None:
    judge = FakeSandbox(lambda job: PASSED)
    assert (await run(ballot(".", "."), judge)).not_compared is NotCompared.NO_CANDIDATE
    assert (await run(BALLOT, judge, ())).not_compared is NotCompared.NO_COMMAND
    assert [job for job in judge.jobs if job.changes] == []


async def test_of_each_behaviour_the_best_is_run_first() -> None:
    alike = ballot("....", "+++.", "+++.", "++..", "+...")
    report = await run(alike, on(dict.fromkeys((None, 0, 1, 2, 3), PASSED), alike))
    rows = [alike.cells[c] for c, _ in report.candidates]
    assert len(set(rows)) == len(rows) == 2


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (exited(4, "ERROR: usage: [options]\n__main__.py: error: unrecognized arguments: --cov=pkg\n"), "--cov"),
        (exited(4, "ImportError while loading conftest.\nE   ModuleNotFoundError: No module named 'x'"), "'x'"),
        (exited(1, "ERROR t/test_a.py\nERROR t/test_b.py\n2 errors in 0.12s\n"), "2 errors"),
        (exited(5, "no tests ran in 0.01s\n"), "no tests ran"),
        (exited(7, "Could not find gem 'rake' in locally installed gems.\n"), "gem 'rake'"),
        (exited(127, "bundler: command not found: rspec\n"), "not found: rspec"),
        (exited(1, "bundler: failed to load command: rspec (/usr/bin/rspec)\n"), "failed to load command: rspec"),
        (exited(1, "rake aborted!\nDon't know how to build task 'test' (see the list)\n"), "build task 'test'"),
        (exited(1, "rake aborted!\nLoadError: cannot load such file -- bundler/setup\n"), "LoadError"),
        (exited(1, "0 examples, 0 failures, 5 errors occurred outside of examples\n"), "0 examples"),
    ],
)  # fmt: skip
async def test_a_runner_that_tested_nothing_gives_way_to_the_next(first: Execution, why: str) -> None:
    def answer(job: SandboxJob) -> Execution:
        return PASSED if job.command == PYTEST_ALONE else first

    report = await run(BALLOT, FakeSandbox(answer), (PYTEST, PYTEST_ALONE))
    assert report.command == PYTEST_ALONE
    assert why in (await run(BALLOT, FakeSandbox(answer), (PYTEST,))).detail


@pytest.mark.parametrize(
    ("output", "tested"),
    [
        ("Ran 0 tests in 0.0s\nOK\n", False),
        ("ERROR: a (t.A)\nRan 3 tests in 0.0s\nFAILED (errors=3)\n", False),
        ("ERROR: a (t.A)\nRan 3 tests in 0.0s\nFAILED (errors=3, skipped=1)\n", False),
        ("ERROR: a (t.A)\nRan 4 tests in 0.0s\nFAILED (errors=3)\n", True),
        (
            "ERROR: a (unittest.loader._FailedTest.a)\nERROR: setUpClass (t.A)\nRan 1 test in 0s\nFAILED (errors=2)\n",
            False,
        ),
        (
            "ERROR: a (unittest.loader._FailedTest.a)\nERROR: setUpClass (t.A)\nRan 2 tests in 0s\nFAILED (errors=3)\n",
            True,
        ),
        ("ERROR: a (t.A)\nRan 3 tests in 0.0s\nFAILED (failures=1, errors=2)\n", True),
    ],
)
async def test_of_unittest_too(output: str, tested: bool) -> None:
    report = await run(BALLOT, FakeSandbox(lambda job: exited(1, output)), (UNITTEST,))
    assert bool(report.command) is tested


async def compared(
    folder: Path, files: dict[str, str], path: str, texts: tuple[str, ...], examples: bool = False
) -> tuple[Ballot, OwnTestsReport]:
    """A repository's own tests in the real sandbox, on it and on candidates that put these texts at the path."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    patches = [Patch(changes=(FileChange(path=path, text=text),), diff="+x\n") for text in texts]
    b = ballot(".", *"+" * len(texts))
    candidates = tuple(c.model_copy(update={"patch": p}) for c, p in zip(b.candidates, patches, strict=True))
    b = b.model_copy(update={"candidates": candidates})
    sandbox = await open_sandbox(SandboxSettings(kind="process"), folder, notice=lambda _: None)
    try:
        settings = SolverSettings(examples=examples)
        base = asyncio.ensure_future(on_base(detect(sorted(files), files.get), sandbox, settings))
        return b, await run_own_tests(b, count(b), base, Harness(sandbox, settings, FakeProgress()))
    finally:
        await sandbox.close()


@pytest.mark.slow
async def test_a_real_repository_in_a_real_sandbox(tmp_path: Path) -> None:
    case = load(1)
    tickets = case.files["shop/tickets.py"]
    wrong = tickets.replace("if age <= 6:", "if age < 60:")
    right = tickets.replace("if age <= 6:", "if age < 6:")
    b, report = await compared(tmp_path, case.files, "shop/tickets.py", (wrong, right))
    assert report.base is not None
    assert report.base.execution.passed
    standings = count(b, report)
    assert [s.candidate for s in standings] == [1, 0]
    broken = sorted(name.split("::")[-1].split()[0] for name in standings[1].regressions)
    assert broken == ["test_ticket_price"]


async def test_where_a_warning_that_is_an_error_keeps_all_tests_from_running_they_run_with_it(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n',
        "a.py": "ONE = 2\n",
        "test_a.py": (
            "import warnings\n\nimport a\n\nwarnings.warn('since 10', DeprecationWarning)\n\n\n"
            "def test_one():\n    assert a.ONE < 3\n"
        ),
    }
    b, report = await compared(tmp_path, files, "a.py", ("ONE = 1\n", "ONE = 3\n"))
    assert report.command == PYTEST_ALONE
    assert report.compared
    assert [s.regressions for s in count(b, report)] == [(), ("test_a.py::test_one",)]


async def test_examples_in_the_changed_file_are_own_tests_where_the_repository_runs_them(tmp_path: Path) -> None:
    """Their names are of the file that a candidate changes, as those of tests are that it brings."""
    text = """
def half(n):
    \"\"\"
    >>> half(4)
    2
    \"\"\"
    return n // 2


def twice(n):
    \"\"\"
    >>> twice(4)
    8
    \"\"\"
    return n + n
"""
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--doctest-modules'\n",
        "shop/__init__.py": "",
        "shop/sums.py": text,
        "tests/test_sums.py": "def test_any():\n    pass\n",
    }
    breaking, undocumented = text.replace("n + n", "n * n"), text.replace(">>> twice(4)\n    8", "")
    fine = text.replace("n // 2", "n / 2 // 1").replace("    2\n", "    2.0\n")
    b, report = await compared(tmp_path, files, "shop/sums.py", (breaking, undocumented, fine))
    assert {s.candidate: s.regressions for s in count(b, report)} == {
        0: ("shop/sums.py::shop.sums.twice",),
        1: ("shop/sums.py::shop.sums.twice (no result)",),
        2: (),
    }


async def test_what_contradicts_the_documentation_breaks_something_whatever_tests_there_are(tmp_path: Path) -> None:
    text = 'def half(n):\n    """\n    >>> half(4)\n    2\n    """\n    return n // 2\n'
    files = {"shop.py": text}
    texts = (text.replace("n // 2", "n - 1"), text.replace("n // 2", "n - 2"))
    b, report = await compared(tmp_path, files, "shop.py", texts, examples=True)
    assert report.not_compared is NotCompared.NO_COMMAND
    assert {s.candidate: s.regressions for s in count(b, report)} == {
        0: ("shop.py: half(4), documented as 2, gives 3",),
        1: (),
    }
    tests = {"test_shop.py": "import shop\n\n\ndef test_half():\n    assert shop.half(5) == 2\n"}
    b, report = await compared(tmp_path / "tested", files | tests, "shop.py", texts, examples=True)
    assert {s.candidate: s.regressions for s in count(b, report)} == {
        0: ("shop.py: half(4), documented as 2, gives 3",),
        1: ("test_shop.py::test_half",),
    }
    assert [candidate for candidate, _ in report.candidates] == [1], "tests need not run on the other"


# -- runners that tested nothing, that hang, and the related tests first ---------------------------------------------


@pytest.mark.parametrize(
    ("command", "execution", "why"),
    [
        ("pytest -q", exited(5, "no tests ran in 0.01s\n"), NotCompared.NO_TESTS),
        ("pytest -q", exited(5, "\n12 deselected in 0.20s\n"), NotCompared.NO_TESTS),
        ("pytest", exited(0, "===== 3 skipped in 0.20s =====\n"), NotCompared.NO_TESTS),
        ("tox", exited(0, "Ran 0 tests in 0.000s\n\nOK\n"), NotCompared.NO_TESTS),
        ("go test ./...", exited(0, "?  \tx\t[no test files]\nok \ty\t0s [no tests to run]\n"), NotCompared.NO_TESTS),
        ("cargo test", exited(0, "\nrunning 0 tests\n\ntest result: ok.\n\nrunning 0 tests\n"), NotCompared.NO_TESTS),
        ("npm test", exited(1, "No tests found, exiting with code 1\n"), NotCompared.NO_TESTS),
        ("npm test", exited(0, "\u2139 tests 0\n\u2139 pass 0\n"), NotCompared.NO_TESTS),
        ("rspec", exited(0, "0 examples, 0 failures\n"), NotCompared.NO_TESTS),
        ("mvn test", exited(0, "[INFO] Tests run: 0, Failures: 0, Errors: 0, Skipped: 0\n"), NotCompared.NO_TESTS),
        ("env A=1 pytst", exited(127, "sh: 1: pytst: not found\n"), NotCompared.NOT_RUN),
        ("make test", exited(2, "make: *** [Makefile:2: test] Error 127\n"), NotCompared.NOT_RUN),
        ("python3 -m tox", exited(1, "/usr/bin/python3: No module named tox\n"), NotCompared.NOT_RUN),
        ("pytest", exited(4, "ERROR: unknown option --cov\n"), NotCompared.NOT_RUN),
    ],
)  # fmt: skip
async def test_a_gate_that_tested_nothing_is_no_gate(command: str, execution: Execution, why: NotCompared) -> None:
    report = await run(BALLOT, FakeSandbox(lambda job: execution), (tuple(command.split()),))
    assert report.not_compared is why
    assert report.detail


@pytest.mark.parametrize(
    "execution",
    [
        exited(0, "== 2 passed, 3 skipped in 0.20s ==\n"),
        exited(0, "?   \tx/a\t[no test files]\nok  \tx/b\t0.0s\n"),
        exited(0, "\nrunning 4 tests\n\nrunning 0 tests\n"),
        exited(0, "ok 1 - a\n# tests 1\n"),
        exited(0, "all is well\n"),
    ],
)
async def test_a_gate_that_tested_something_is_one(execution: Execution) -> None:
    assert (await run(BALLOT, FakeSandbox(lambda job: execution), (("check",),))).compared


def stopped(output: str, seconds: float = 11.0) -> Execution:
    return Execution(ending=Ending.TIMED_OUT, output=output, seconds=seconds)


HANGING = {
    "pytest": "t.py::a PASSED   [ 25%]\nt.py::b[x y] PASSED [ 50%]\nt.py::c FAILED [ 75%]\nt.py::d ",
    "xdist": "[gw0] [ 25%] PASSED t.py::a\n[gw1] [ 50%] PASSED t.py::b[x y]\n[gw1] [ 75%] FAILED t.py::c\nt.py::d ",
    "unittest": "a (t.T.a) ... ok\nb (t.T.b)\nSays more. ... ok\nc (t.T.c) ... FAIL\nd (t.T.d) ... ",
    "go": "=== RUN   a\n--- PASS: a (0.00s)\n=== RUN   b\n--- PASS: b (0.0s)\n--- FAIL: c (0.0s)\n=== RUN   d\n",
    "cargo": "test a ... ok\ntest b ... ok\ntest c ... FAILED\n",
    "tap": "ok 1 - a\nok 2 - b\nnot ok 3 - c\n",
}


@pytest.mark.parametrize("runner", HANGING)
def test_what_ended_before_a_run_was_stopped_is_known(runner: str) -> None:
    passed, failed = so_far(stopped(HANGING[runner]))
    assert (len(passed), len(failed)) == (2, 1)
    begun = under_way(stopped(HANGING[runner]))
    assert begun.startswith(("t.py::d", "d")) == (runner not in ("cargo", "tap"))


def test_a_suite_that_hangs_at_an_import_is_told_so() -> None:
    assert under_way(stopped("===== test session starts =====\nplugins: x\ncollecting ... ")) == "collecting ..."


async def test_a_suite_that_hangs_is_compared_by_what_ended_before() -> None:
    base = stopped("t.py::a PASSED [ 1%]\nt.py::b PASSED [ 2%]\nt.py::c FAILED [ 3%]\nt.py::hangs ")
    breaks = stopped("t.py::a FAILED [ 1%]\nt.py::b PASSED [ 2%]\nt.py::c FAILED [ 3%]\nt.py::hangs ")
    report = await run(BALLOT, on({None: base, 0: breaks, 1: base, 2: base}, BALLOT))
    assert (report.compared, report.under_way) == (True, "t.py::hangs")
    standings = {s.candidate: s for s in count(BALLOT, report)}
    assert standings[0].regressions == ("t.py::a",)
    assert standings[1].regressions == ()


async def test_a_candidate_that_hangs_where_the_base_commit_does_not_breaks_something() -> None:
    quick = exited(0, "2 passed in 1.0s\n").model_copy(update={"seconds": 1.0})
    slow = quick.model_copy(update={"seconds": 9.0})
    for base, broken in ((quick, True), (slow, False)):
        report = await run(BALLOT, on({None: base, 0: stopped("t.py::a "), 1: base, 2: base}, BALLOT))
        standings = {s.candidate: s for s in count(BALLOT, report)}
        assert bool(standings[0].regressions) is broken


def test_of_a_long_output_the_summary_is_enough() -> None:
    long = Execution(
        ending=Ending.EXITED,
        exit_code=1,
        truncated=True,
        output="t.py::a PASSED\n[... 900000 bytes left out ...]\n" + PYTEST_OUTPUT,
    )
    assert failing(long) == failing(exited(1, PYTEST_OUTPUT))
    assert failing(long.model_copy(update={"output": PYTEST_OUTPUT + "[... 9 bytes left out ...]\n"})) is None


async def test_files_that_can_not_be_imported_are_named() -> None:
    output = PYTEST_OUTPUT + "ERROR tests/test_c.py - ImportError\n"
    report = await run(BALLOT, FakeSandbox(lambda job: exited(1, output)))
    assert report.unimported == ("tests/test_b.py", "tests/test_c.py")
    failed = exited(
        1, "ERROR: tests.test_b (unittest.loader._FailedTest.tests.test_b)\nRan 3 tests\nFAILED (errors=1)\n"
    )
    assert (await run(BALLOT, FakeSandbox(lambda job: failed))).unimported == ("tests.test_b",)


TESTS = {"tests/test_a.py": "import a\n", "tests/test_z.py": ""}  # `ballot` has patches of `a.py`


async def with_tests(judge: FakeSandbox, settings: SolverSettings, progress: FakeProgress) -> OwnTestsReport:
    base = asyncio.ensure_future(on_base((("pytest", "-q", "tests"),), judge, settings))
    return await run_own_tests(BALLOT, count(BALLOT), base, Harness(judge, settings, progress), TESTS)


async def test_the_related_tests_run_first_and_all_where_those_pass() -> None:
    settings, progress = SolverSettings(own_tests_candidates=2), FakeProgress()
    broken = BALLOT.candidates[0].patch.changes

    def answer(job: SandboxJob) -> Execution:
        if job.command == ("pytest", "-q", "tests/test_a.py") and job.changes == broken:
            return said("tests/test_a.py::x")
        return exited(0, "7 passed in 0.1s\n")

    judge = FakeSandbox(answer)
    report = await with_tests(judge, settings, progress)
    ran = [(job.command[-1], job.changes == broken) for job in judge.jobs if job.changes]
    assert ("tests", True) not in ran
    assert ran.index(("tests/test_a.py", False)) < ran.index(("tests", False))
    assert [s.candidate for s in count(BALLOT, report)][-1] == 0
    results = dict(report.candidates)
    assert (results[0].files, results[1].files) == (("tests/test_a.py",), ())
    keys = [job.key for job in judge.jobs]
    assert len(keys) == len(set(keys)), "nothing runs twice on the same tree"
    notes = [note for *_, note in progress.updates]
    assert any("7 passed on the base commit" in note for note in notes)


async def test_where_all_tests_hang_without_a_word_the_related_ones_are_compared() -> None:
    settings = SolverSettings(own_tests_candidates=2)
    broken = BALLOT.candidates[0].patch.changes

    def answer(job: SandboxJob) -> Execution:
        if job.command[-1] == "tests":
            return stopped("....")
        return said("tests/test_a.py::x") if job.changes == broken else exited(0, "3 passed in 0.1s\n")

    report = await with_tests(FakeSandbox(answer), settings, FakeProgress())
    assert report.compared
    standings = {s.candidate: s for s in count(BALLOT, report)}
    assert standings[0].regressions == ("tests/test_a.py::x",)
    assert standings[1].regressions == ()


async def test_tests_that_depend_on_their_order_break_nothing_alone() -> None:
    def answer(job: SandboxJob) -> Execution:
        return said("tests/test_a.py::x") if job.command[-1] != "tests" else PASSED

    report = await with_tests(FakeSandbox(answer), SolverSettings(), FakeProgress())
    assert not any(s.regressions for s in count(BALLOT, report))


GO = ("go", "test", "./...", "-v")


def go_says(*names: str, failed: str = "") -> Execution:
    lines = "".join(f"--- PASS: {name} (0.00s)\n" for name in names)
    return exited(1 if failed else 0, lines + (f"--- FAIL: {failed} (0.00s)\nFAIL\n" if failed else "ok  a  0.01s\n"))


async def test_attack_25_lines_of_tests_that_did_not_run_betray_a_candidate() -> None:
    """Candidate 0 prints what the base commit's run prints and ends; the others are honest."""
    names = ("TestA", "TestB", "TestC", "TestC/part")
    forger = BALLOT.candidates[0].patch.changes

    def answer(job: SandboxJob) -> Execution:
        if "-run" not in job.command or job.changes == forger:
            return go_says(*names)
        asked = job.command[job.command.index("-run") + 1].strip("^$")
        return go_says(*(name for name in names if name == asked or name.startswith(f"{asked}/")))

    judge = FakeSandbox(answer)
    report = await run(BALLOT, judge, (GO,))
    standings = {s.candidate: s for s in count(BALLOT, report)}
    assert set(standings[0].regressions) == {"TestA", "TestB", "TestC"}
    assert standings[1].regressions == ()
    assert ("go", "test", "-run", "^TestA$", "./...", "-v") in [job.command for job in judge.jobs]


async def test_a_test_that_passes_only_after_others_is_not_held_against_a_candidate() -> None:
    def answer(job: SandboxJob) -> Execution:
        return go_says(failed="TestB") if "^TestB$" in job.command else go_says("TestA", "TestB")

    report = await run(BALLOT, FakeSandbox(answer), (GO,))
    assert not any("TestB" in s.regressions for s in count(BALLOT, report))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("env", "A=1", "go", "test", "./..."), ("env", "A=1", "go", "test", "-run", r"^a\.b$", "./...")),
        (("cargo", "test", "--offline"), ("cargo", "test", "--offline", "--", "--exact", "a.b")),
        (("node", "--test", "a.js"), ("node", r"--test-name-pattern=^a\.b$", "--test", "a.js")),
        (("npm", "test"), None),
        (("make", "test"), None),
        (("pytest",), None),
    ],
)
def test_the_command_for_one_test(command: tuple[str, ...], expected: tuple[str, ...] | None) -> None:
    assert alone(command, "a.b") == expected


def test_a_lot_is_drawn_anew_for_each_candidate() -> None:
    names = [f"T{n}" for n in range(100)]
    assert len(chosen(names, "one")) == 20
    assert chosen(names, "one") == chosen(names[::-1], "one") != chosen(names, "two")
    assert set(chosen(names[:5], "one")) == set(names[:5])


async def test_while_a_long_run_goes_on_the_progress_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_tests, "TICK", 0.001)
    moved = asyncio.Event()

    class Watched(FakeProgress):
        def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
            super().update(state, done, total, note)
            if len(self.updates) == 3:
                moved.set()

    progress = Watched()

    async def base() -> OwnTestsReport:
        await moved.wait()
        return OwnTestsReport(not_compared=NotCompared.NO_COMMAND)

    settings = SolverSettings(own_tests_timeout=143.717)  # a share of the time, as a rule
    harness = Harness(FakeSandbox(lambda job: exited(0)), settings, progress)
    await run_own_tests(BALLOT, count(BALLOT), base(), harness)
    notes = [note for *_, note in progress.updates]
    assert notes[0] == "the repository's own tests, on the base commit"
    assert notes[2] == f"{notes[0]} (for 0 s; each run has 144 s)"


async def test_while_tests_run_the_progress_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_tests, "TICK", 0.001)
    printed, all_ran = ["test_a.py::test_0 PASSED\n"], asyncio.Event()

    class Slow(FakeSandbox):
        async def run(self, job: SandboxJob, follow: Follow | None = None) -> Execution:
            if follow is not None:
                follow(lambda: "".join(printed))
            await all_ran.wait()
            return exited(1, "".join(printed) + "== 1 failed, 3 passed in 1.00s ==\n")

    class Seen(FakeProgress):
        def update(self, state: RunState, done: int, total: int, note: str = "") -> None:
            super().update(state, done, total, note)
            if "now" in note and len(printed) < 4:
                printed.append(f"test_a.py::test_{len(printed)} {'FAILED' if len(printed) == 2 else 'PASSED'}\n")
            elif "now" in note:
                all_ran.set()

    sandbox, progress, settings = Watched(Slow()), Seen(), SolverSettings()
    command = ("python3", "-m", "pytest", "-v")
    base = on_base([command], sandbox, settings)
    await run_own_tests(BALLOT, count(BALLOT), base, Harness(sandbox, settings, progress))
    notes = [note for *_, note in progress.updates if "now" in note]
    counts = list(dict.fromkeys(note.partition("now ")[2].partition(" (")[0] for note in notes))
    assert counts[:3] == ["1 passed", "2 passed", "2 passed, 1 failed"]
    assert sandbox.so_far == "", "nothing runs any more"


async def test_a_run_that_is_stopped_has_ended_its_tests() -> None:
    ended: list[bool] = []
    begun = asyncio.Event()

    async def base() -> OwnTestsReport:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)
        raise AssertionError

    sandbox = FakeSandbox(lambda job: exited(0))
    running = asyncio.ensure_future(
        run_own_tests(BALLOT, count(BALLOT), base(), Harness(sandbox, SolverSettings(), FakeProgress()))
    )
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert ended


@pytest.mark.parametrize(
    ("base", "expected"), [(exited(0), 120.0), (stopped("", 900.0), 900.0), (stopped("", 8.0), 900.0), (None, 900.0)]
)
def test_a_candidate_has_ten_times_the_base_commits_time(base: Execution | None, expected: float) -> None:
    assert time_for(told(base) if base else None, 900.0) == expected
    slow = exited(0).model_copy(update={"seconds": 40.0})
    assert time_for(told(slow), 900.0) == 400.0
    assert time_for(told(slow), 60.0) == 60.0


async def test_a_candidate_is_not_waited_for_as_long_as_the_base_commit() -> None:
    sandbox = FakeSandbox(lambda job: exited(0, "1 passed in 1.00s\n"))
    settings = SolverSettings(own_tests_timeout=900)
    base = on_base([PYTEST], sandbox, settings)
    await run_own_tests(BALLOT, count(BALLOT), base, Harness(sandbox, settings, FakeProgress()))
    assert {bool(job.changes): job.timeout for job in sandbox.jobs} == {False: 900.0, True: 120.0}
