"""What runners of many languages print, recorded of small projects with their real versions, cut short."""

from typing import NamedTuple

import pytest

from bot.records import Execution, OwnTestsReport
from bot.solver.comparison import regressions, told
from bot.solver.test_runners import failing, ran, so_far
from tests.fakes import exited


class Printed(NamedTuple):
    output: str
    failing: tuple[str, ...]
    passed: tuple[str, ...] = ()  # where the runner names those
    ran: int | None = None


MINITEST = Printed(  # 5.15
    "# Running:\n\n.FSE.F\n\nFinished in 0.009039s, 663.7551 runs/s, 442.5034 assertions/s.\n\n  1) Failure:\n"
    "TestMill#test_high [/repo/test/test_mill.rb:4]:\nExpected: 1\n  Actual: 2\n\n  2) Error:\nTestMill#test_err:\n"
    "RuntimeError: x\n    /repo/test/test_mill.rb:5:in `test_err'\n\n  3) Failure:\n"
    "mill::inner#test_0001_fails: a [/repo/test/test_mill.rb:10]:\nExpected: 2\n  Actual: 1\n\n"
    "6 runs, 4 assertions, 2 failures, 1 errors, 1 skips\nrake aborted!\nCommand failed with status (1)\n",
    ("TestMill#test_high", "TestMill#test_err", "mill::inner#test_0001_fails: a"),
    ran=6,
)
MINITEST_VERBOSE = Printed(
    "TestMill#test_err = 0.00 s = E\nTestMill#test_skip = 0.00 s = S\nTestMill#test_low = 0.00 s = .\n"
    "mill#test_0001_works with words = 0.01 s = .\n\n  1) Error:\nTestMill#test_err:\nRuntimeError: x\n\n"
    "4 runs, 2 assertions, 0 failures, 1 errors, 1 skips\n",
    ("TestMill#test_err",),
    ("TestMill#test_low", "mill#test_0001_works with words"),
    4,
)
RAILS = Printed(  # 6.1
    "Run options: -v --seed 24670\n\n# Running:\n\nRangeTest#test_high = 0.07 s = F\n\n\nFailure:\n"
    "RangeTest#test_high [/repo/tree/test/models/range_test.rb:10]:\nExpected: 3\n  Actual: 1\n\n\n"
    "rails test test/models/range_test.rb:8\n\nRangeTest#test_two = 0.00 s = E\n\n\nError:\nRangeTest#test_two:\n"
    "NoMethodError: undefined method `x' for nil:NilClass\n    test/models/range_test.rb:12:in `block in <class>'\n\n\n"
    "rails test test/models/range_test.rb:11\n\nRangeTest#test_low = 0.03 s = .\n\n"
    "Finished in 0.008139s, 368.6 runs/s, 12.8 assertions/s.\n3 runs, 2 assertions, 1 failures, 1 errors, 0 skips\n",
    ("RangeTest#test_high", "RangeTest#test_two"),
    ("RangeTest#test_low",),
    3,
)
TEST_UNIT = Printed(  # 3.5
    "Started\n.F\n====\nFailure: test_data[two words](Outer::TestMill)\n/repo/test/test_mill.rb:5:in `test_data'\n"
    "<1> expected but was\n<2>\n====\nE\n====\nError: test_err(Outer::TestMill): RuntimeError: x\n"
    "/repo/test/test_mill.rb:6:in `test_err'\n====\n.\nFinished in 1.38 seconds.\n----\n"
    "4 tests, 5 assertions, 1 failures, 1 errors, 0 pendings, 1 omissions, 0 notifications\n75% passed\n",
    ("test_data[two words](Outer::TestMill)", "test_err(Outer::TestMill)"),
    ran=4,
)
BUN = Printed(  # 1.4
    "bun test v1.4.5 (a7733435c)\n\na.test.js:\n(pass) adds [0.05ms]\n3 | test('adds', () => {\n"
    "error: expect(received).toBe(expected)\n\nExpected: 4\nReceived: 3\n\n      at <anonymous> (/repo/a.test.js:4:46)"
    "\n"
    "(fail) fails here [0.16ms]\n(pass) outer > inner > deep > one [0.01ms]\n(skip) outer > inner > skipped\n"
    "(todo) outer > inner > later\n(fail) times out\n\n 2 pass\n 1 skip\n 1 todo\n 2 fail\n 3 expect() calls\n"
    "Ran 6 tests across 1 file. [22.00ms]\n",
    ("fails here", "times out"),
    ("adds", "outer > inner > deep > one"),
    6,
)
DENO = Printed(  # 2.9
    "\x1b[0m\x1b[38;5;245mrunning 4 tests from ./b_test.ts\x1b[0m\n"
    "adds ... \x1b[0m\x1b[32mok\x1b[0m \x1b[0m\x1b[38;5;245m(386\u00b5s)\x1b[0m\n"
    "fails here ... \x1b[0m\x1b[31mFAILED\x1b[0m (1ms)\nsteps ...\n  inner ... ok (0ms)\nsteps ... ok (1s)\n"
    "ignored ... ignored (0ms)\n\n ERRORS \n\nfails here => ./b_test.ts:3:6\nerror: Error: no\n\n FAILURES \n\n"
    "fails here => ./b_test.ts:3:6\n\nFAILED | 2 passed (1 step) | 1 failed | 1 ignored (49ms)\n\nerror: Test failed\n",
    ("fails here",),
    ("adds", "steps"),
)
RSPEC = Printed(  # 3.12
    ".F*F\n\nPending: (Failures listed here are expected and do not affect your suite's status)\n\n"
    "  1) Mill pending one\n     # x\n\nFailures:\n\n  1) Mill subtracts\n     Failure/Error: expect(1).to eq 2\n\n"
    "Finished in 0.02 seconds (files took 0.3 seconds to load)\n4 examples, 2 failures, 1 pending\n\n"
    "Failed examples:\n\nrspec ./spec/mill_spec.rb:3 # Mill subtracts\nrspec './spec/mill_spec.rb[1:5]' # Mill is 2\n",
    ("./spec/mill_spec.rb:3 # Mill subtracts", "'./spec/mill_spec.rb[1:5]' # Mill is 2"),
    ran=4,
)
PHPUNIT = Printed(  # 9.6
    "PHPUnit 9.6.7 by Sebastian Bergmann and contributors.\n\n.FES.F    6 / 6 (100%)\n\nThere was 1 error:\n\n"
    "1) Mill\\Tests\\MillTest::testErr\nRuntimeException: x\n\n/repo/tests/MillTest.php:7\n\n--\n\n"
    "There were 2 failures:\n\n1) Mill\\Tests\\MillTest::testHigh\nFailed asserting that 2 is identical to 1.\n\n"
    '2) Mill\\Tests\\MillTest::testData with data set "two words" (2)\nFailed asserting\n\n'
    "ERRORS!\nTests: 6, Assertions: 5, Errors: 1, Failures: 2, Skipped: 1.\n",
    (
        "Mill\\Tests\\MillTest::testErr",
        "Mill\\Tests\\MillTest::testHigh",
        'Mill\\Tests\\MillTest::testData with data set "two words"',
    ),
    ran=6,
)
PHPUNIT_13 = Printed(
    "PHPUnit 13.4.3 by Sebastian Bergmann and contributors.\n\n.FESFF.W    8 / 8 (100%)\n\n"
    "There was 1 error:\n\n1) MillTest::testErr\nRuntimeException: x\n\n/repo/MillTest.php:7\n\n--\n\n"
    "There were 3 failures:\n\n1) MillTest::testHigh\nFailed asserting that 2 is identical to 1.\n\n"
    "2) MillTest::testData@two words with data (2)\nFailed asserting that 2 is identical to 1.\n\n"
    "3) MillTest::testData#0 with data (3)\nFailed asserting that 3 is identical to 1.\n\n"
    "ERRORS!\nTests: 8, Assertions: 6, Errors: 1, Failures: 3, Warnings: 1, Skipped: 1.\n",
    ("MillTest::testErr", "MillTest::testHigh", "MillTest::testData@two words", "MillTest::testData#0"),
    ran=8,
)
GO = Printed(  # 1.27
    "=== RUN   TestLow\n=== ATTR  TestLow kind x\n=== RUN   TestLow/sub_one\n--- PASS: TestLow (0.00s)\n"
    "    --- PASS: TestLow/sub_one (0.00s)\n=== RUN   TestHigh\n    mill_test.go:4: no\n--- FAIL: TestHigh (0.00s)\n"
    "=== RUN   TestSkip\n    mill_test.go:5: \n--- SKIP: TestSkip (0.00s)\nFAIL\nFAIL\tmill\t0.008s\nFAIL\n",
    ("TestHigh",),
    ("TestLow", "TestLow/sub_one"),
)
PROVE = Printed(  # 3.44
    "t/a.t .. \nDubious, test returned 2 (wstat 512, 0x200)\nFailed 2/5 subtests \nt/b.t .. ok\n\n"
    "Test Summary Report\n-------------------\nt/a.t    (Wstat: 512 (exited 2) Tests: 5 Failed: 2)\n"
    "  Failed tests:  2-3\n  Non-zero exit status: 2\nt/c.t    (Wstat: 0 Tests: 20 Failed: 0)\n  TODO passed:   16\n"
    "t/d.t    (Wstat: 512 (exited 2) Tests: 0 Failed: 0)\n  Parse errors: No plan found in TAP output\n"
    "Files=4, Tests=32,  1 wallclock secs ( 0.01 usr  0.01 sys)\nResult: FAIL\n",
    ("t/a.t", "t/d.t"),
    ran=32,
)
NODE = Printed(  # 20
    "TAP version 13\n# Subtest: outer\n    # Subtest: works\n    ok 1 - works\n      ---\n      duration_ms: 7.6\n"
    "      ...\n    # Subtest: fails\n    not ok 2 - fails\n      ---\n      duration_ms: 0.2\n      ...\n    1..2\n"
    "not ok 1 - outer\n# Subtest: later\nok 2 - later # TODO\n# Subtest: alone\nok 3 - alone\n1..3\n"
    "# tests 4\n# pass 2\n",
    ("outer > fails", "outer"),
    ("outer > works", "alone"),
    4,
)
TAPE = Printed(  # 5
    "TAP version 13\n# low\nok 1 should be equal\nok 2 should be equal\n# high\nnot ok 3 should be equal\n  ---\n"
    "    operator: equal\n  ...\n\n1..3\n# tests 3\n# pass  2\n# fail  1\n",
    ("high > should be equal",),
    ("low > should be equal", "low > should be equal"),
    3,
)
NODE_TAP = Printed(  # 16
    "TAP version 13\n# Subtest: test/a.js\n    # Subtest: outer\n        ok 1 - same\n        not ok 2 - differ\n"
    "        1..2\n        # failed 1 of 2 tests\n    not ok 1 - outer # time=20.641ms\n    1..1\n"
    "not ok 1 - test/a.js # time=22.817ms\n# Subtest: test/b.js\n    ok 1 - b ok\n    1..1\n    # time=4.613ms\n"
    "ok 2 - test/b.js # time=4.613ms\n\n1..2\n# failed 1 of 2 tests\n# time=248.44ms\n",
    ("test/a.js > outer > differ", "test/a.js > outer", "test/a.js"),
    ("test/a.js > outer > same", "test/b.js > b ok", "test/b.js"),
)
JEST = Printed(  # 29, of several files
    "PASS ./b.test.js\nFAIL ./a.test.js (5.2 s)\n  \u25cf Console\n\n    console.log\n\n  \u25cf outer \u203a high\n\n"
    "    expect(received).toBe(expected)\n\n      at Object.toBe (a.test.js:2:92)\n\n"
    "Test Suites: 1 failed, 1 passed, 2 total\n"
    "Tests:       1 failed, 2 skipped, 8 passed, 11 total\n",
    ("./a.test.js", "outer \u203a high"),
    ("./b.test.js",),
    11,
)
VITEST = Printed(  # 4
    " \x1b[31m\u276f\x1b[39m test/a.test.js \x1b[2m(\x1b[22m3 tests | 1 failed)\x1b[32m 14ms\x1b[39m\n"
    "     \x1b[32m\u2713\x1b[39m ok 1ms\n     \x1b[31m\u00d7 high\x1b[39m 10ms\n"
    " \u2713 test/b.test.js (6 tests) 3ms\n\n"
    "\x1b[41m\x1b[1m FAIL \x1b[22m\x1b[49m test/a.test.js\x1b[2m > \x1b[22mouter\x1b[2m > \x1b[22mhigh\n"
    "AssertionError: expected 1 to be 2\n\n      Tests  1 failed | 8 passed (9)\n",
    ("test/a.test.js > outer > high",),
    ("test/b.test.js",),
    9,
)
UVU = Printed(  # 0.5
    'it.test.js\n clamp  \u2022 \u2718 \u2022 \u2022   (3 / 4)\n\n   FAIL  clamp  "high"\n    Expected values\n\n'
    "  Total:     4\n  Passed:    3\n  Skipped:   0\n  Duration:  19.89ms\n",
    ('clamp "high"',),
    ran=4,
)
AVA = Printed(  # 6
    "  \u2714 a \u203a low\n  \u2718 [fail]: a \u203a high\n  \u2714 b \u203a slow (1.2s)\n"
    "  \u2500\n\n"
    "  a \u203a high\n\n  1 test failed\n",
    ("a \u203a high",),
    ("a \u203a low", "b \u203a slow"),
)
MOCHA = Printed(  # 11
    "  mill\n    with limits\n      \u2714 low\n      1) high\n    \u2714 slow (31ms)\n\n  2 passing (9ms)\n"
    "  1 failing\n\n"
    "  1) mill\n       with limits\n         high:\n     AssertionError: 1 == 2\n"
    "      at Context.<anonymous> (a.js:1:1)\n",
    ("mill with limits high",),
    ("low", "slow"),
    3,
)
JASMINE = Printed(  # 5
    ".F\n\nFailures:\n1) outer high\n  Message:\n    Expected 1 to be 2.\n  Stack:\n        at <Jasmine>\n\n"
    "2 specs, 1 failure\n",
    ("outer high",),
    ran=2,
)
CARGO = Printed(  # 1.65
    "running 2 tests\ntest tests::high ... FAILED\ntest tests::low - should panic ... ok\n\n   Doc-tests mill\n\n"
    "running 3 tests\ntest src/lib.rs - (line 3) ... ok\ntest src/lib.rs - clamp (line 40) ... FAILED\n"
    "test src/lib.rs - Mill::<T>::new (line 50) - compile fail ... ok\n",
    ("tests::high", "src/lib.rs - clamp"),
    ("tests::low", "src/lib.rs - ", "src/lib.rs - Mill::<T>::new"),
    5,
)
BUSTED = Printed(  # 2.1
    "+-\n2 successes / 1 failure / 0 errors / 0 pending : 0.003711 seconds\n\nFailure \u2192 spec/mill_spec.lua @ 3\n"
    "mill fails\nspec/mill_spec.lua:3: Expected objects to be equal.\n",
    ("spec/mill_spec.lua @ 3 mill fails",),
)
EXUNIT = Printed(  # 1.14
    "Running ExUnit with seed: 877850, max_cases: 4\n\n..\n\n  1) test high (MillTest)\n     test/mill_test.exs:3\n"
    "     Assertion with == failed\n     code:  assert Mill.clamp(5, 1, 3) == 3\n     left:  1\n     right: 3\n\n\n"
    "Finished in 0.01 seconds (0.00s async, 0.01s sync)\n1 doctest, 2 tests, 1 failure\n\nRandomized with seed 8\n",
    ("test high (MillTest)",),
    ran=2,
)
GTEST = Printed(
    "[==========] Running 2 tests from 1 test suite.\n[ RUN      ] Mill.Low\n[       OK ] Mill.Low (0 ms)\n"
    "[ RUN      ] Mill.High\n[  FAILED  ] Mill.High (1 ms)\n[==========] 2 tests from 1 test suite ran. (1 ms total)\n"
    "[  PASSED  ] 1 test.\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] Mill.High\n",
    ("Mill.High",),
    ("Mill.Low",),
    2,
)
AUTOMAKE = Printed("PASS: low\nFAIL: high\n# TOTAL: 2\n# PASS:  1\n# FAIL:  1\n", ("high",), ran=2)
CTEST = Printed(  # 3.25
    "Test project /repo/tree/troop-build\n    Start 1: low\n1/6 Test #1: low ..............   Passed    0.01 sec\n"
    "    Start 2: high values\n2/6 Test #2: high values ......***Failed    0.01 sec\nmill: 1\n"
    "3/6 Test #3: gone .............***Not Run   0.00 sec\n4/6 Test #4: off .......***Not Run (Disabled)   0.00 sec\n"
    "5/6 Test #5: slow .............***Timeout   1.50 sec\n6/6 Test #6: odd ..............***Skipped   0.00 sec\n\n"
    "40% tests passed, 3 tests failed out of 5\n\nThe following tests FAILED:\n\t  2 - high values (Failed)\n",
    ("high values", "gone", "slow"),
    ("low",),
    5,
)
NODE_SPEC = Printed(  # 22 to 26
    "\u25b6 clamp\n  \u2714 low (7.86ms)\n  \u2716 high, with (brackets) (0.77ms)\n  \u25b6 deep\n"
    "    \u2716 low (4.34ms)\n    \u2714 waits (0.44ms)\n  \u2716 deep (5.06ms)\n\u2716 clamp (18.78ms)\n"
    "\u2714 alone (0.1ms)\n\u2139 tests 5\n\u2139 suites 2\n\u2139 pass 3\n\u2139 fail 2\n\n"
    "\u2716 failing tests:\n\ntest at it.test.js:10:3\n\u2716 high, with (brackets) (0.77ms)\n  Error: 5 == 3\n",
    ("clamp > high, with (brackets)", "clamp > deep > low", "clamp > deep", "clamp"),
    ("clamp > low", "clamp > deep > waits", "alone"),
    5,
)
GO_JSON = Printed(  # 1.27: two packages at once
    "".join(
        f'{{"Time":"2026-12-01T05:47:38.89Z","Action":"{action}","Package":"{package}"{more}}}\n'
        for action, package, more in (
            ("start", "a", ""),
            ("run", "a", ',"Test":"TestLow"'),
            ("output", "a", ',"Test":"TestLow","Output":"=== RUN   TestLow\\n","OutputType":"frame"'),
            ("output", "b", ',"Test":"TestHigh","Output":"=== RUN   TestHigh\\n"'),
            ("output", "a", ',"Test":"TestLow","Output":"half a "'),
            ("output", "b", ',"Test":"TestHigh/5","Output":"    b_test.go:5: got \\u001b[31m4\\n"'),
            ("output", "b", ',"Test":"TestHigh/5","Output":"    --- FAIL: TestHigh/5 (0.00s)\\n"'),
            ("output", "a", ',"Test":"TestLow","Output":"line\\n"'),
            ("output", "a", ',"Test":"TestLow","Output":"--- PASS: TestLow (0.00s)\\n"'),
            ("pass", "a", ',"Test":"TestLow","Elapsed":0'),
            ("output", "b", ',"Test":"TestHigh","Output":"--- FAIL: TestHigh (0.00s)\\n"'),
            ("output", "b", ',"Output":"FAIL\\tb\\t0.002s\\n"'),
            ("fail", "b", ',"Elapsed":0.003'),
        )
    )
    + "make: *** [Makefile:2: test] Error 1\n",
    ("TestHigh/5", "TestHigh"),
    ("TestLow",),
)
GOTESTSUM = Printed(  # of the form `testname`
    "PASS a.TestLow (0.00s)\nFAIL b.TestHigh/5 (0.00s)\nFAIL b.TestHigh (0.00s)\nFAIL b\n\n=== Failed\n"
    "=== FAIL: b TestHigh/5 (0.00s)\n    b_test.go:5: got 4\n\n=== FAIL: b TestHigh (0.00s)\n\n"
    "DONE 3 tests, 2 failures in 0.210s\n",
    ("b TestHigh/5", "b TestHigh"),
    ("a.TestLow",),
    3,
)

RUNNERS = {name.lower(): value for name, value in sorted(globals().items()) if isinstance(value, Printed)}


@pytest.mark.parametrize("runner", RUNNERS)
def test_each_runner_names_its_tests(runner: str) -> None:
    printed = RUNNERS[runner]
    execution = exited(1, printed.output)
    assert failing(execution) == printed.failing
    assert ran(execution) == printed.ran
    if printed.passed:
        assert so_far(execution)[0] == printed.passed


def broken(base: Execution, after: Execution) -> tuple[str, ...]:
    report = OwnTestsReport(command=("make", "test"), base=told(base), candidates=((0, told(after)),))
    return regressions(report, 0)


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_fails_before_breaks_nothing(runner: str) -> None:
    execution = exited(1, RUNNERS[runner].output)
    assert broken(execution, execution) == ()


def test_of_vitest_a_right_fix_of_the_only_file_breaks_nothing() -> None:
    """Where each test of a file passes, its tests are not named; nor is a file another one that has a test more."""
    few, more = (f" \u2713 it.test.js ({count} tests) 3ms\n      Tests  {count} passed ({count})\n" for count in (3, 4))
    base = exited(1, "".join(VITEST.output.splitlines(keepends=True)[:3]).replace("test/a.test.js", "it.test.js"))
    assert broken(base, exited(0, few)) == ()
    assert broken(exited(0, few), exited(0, more)) == ()
    assert broken(exited(0, few), base)


def test_a_second_failure_is_told_from_the_first() -> None:
    one = "  1) Failure:\nTestMill#test_low [a.rb:4]:\n"
    two = one + "\n  2) Failure:\nTestMill#test_high [a.rb:9]:\n"
    assert broken(exited(1, one), exited(1, two)) == ("TestMill#test_high",)


def test_times_and_lines_are_no_part_of_names() -> None:
    quick, slow = (f"ok 1 - a # time={time}ms\nnot ok 2 - b # time={time}ms\n" for time in ("4.6", "19.2"))
    assert broken(exited(1, quick), exited(1, slow)) == ()
    moved = CARGO.output.replace("(line 40)", "(line 44)").replace("(line 50)", "(line 54)")
    assert broken(exited(1, CARGO.output), exited(1, moved)) == ()


def test_of_a_file_whose_test_fails_that_test_is_named() -> None:
    base = exited(0, " \u2713 test/a.test.js (9 tests) 3ms\n      Tests  9 passed (9)\n")
    after = exited(1, " FAIL  test/a.test.js > outer > high\n\n      Tests  1 failed | 8 passed (9)\n")
    assert broken(base, after) == ("test/a.test.js > outer > high",)


def test_of_mocha_a_test_is_named_once() -> None:
    before = "  mill\n    \u2714 high\n  hill\n    \u2714 high\n\n  2 passing (9ms)\n"
    failed = "  1 passing (9ms)\n  1 failing\n\n  1) hill\n       high:\n     no\n"
    after = f"  mill\n    \u2714 high\n  hill\n    1) high\n\n{failed}"
    assert broken(exited(0, before), exited(1, after)) == ("hill high",)


def test_where_only_what_follows_the_tests_fails_they_are_compared() -> None:
    base = exited(1, "ok 1 a\nok 2 b\n# tests 2\nTypes can't be checked: no network\n")
    assert told(base).failures == ()
    assert broken(base, base) == ()
    assert broken(base, exited(1, "ok 1 a\nnot ok 2 b\n# tests 2\n")) == ("b",)
    assert broken(base, exited(1, "ok 1 a\nSyntaxError\n")) == ("b (no result)",)


def test_a_run_that_fails_behind_its_tests_and_did_not_before_is_broken() -> None:
    output = "ok 1 a\nok 2 b\n# tests 2\n"
    assert broken(exited(0, output), exited(1, output + "index.d.ts: type error\n")) == ("make test: exit 1",)


def test_titles_above_many_results_stay_short() -> None:
    output = f"# {'x' * 50_000}\n" + "ok 1 a\n" * 5_000
    names = so_far(exited(0, output))[0]
    assert len(names) == 5_000
    assert max(map(len, names)) < 300
