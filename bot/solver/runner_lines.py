"""The lines by which runners of tests say how each test ended, and how many there were. Pure."""

import re
from collections.abc import Iterator

from bot.patch.formats import of_json

# Of an example in documentation without its line, which moves when the file is edited.
_CARGO_NAME = r"\S+(?: - (?!should panic|compile)[^\n(]*?(?=[ (]))?"
_CARGO_REST = r"(?: ?\(line \d+\))?(?: - (?:should panic|compile(?: fail)?))?"

# How runners name a failing test. pytest: `FAILED a.py::b - why` and `ERROR a.py`; unittest: `FAIL: b (a.B.b)`;
# go: `--- FAIL: B`; cargo: `test a::b ... FAILED`; TAP: `not ok 1 - b`; minitest: `1) Failure:` and the name below,
# of Rails without the number; test-unit: `Failure: b(A)`;
# rspec: `rspec ./a_spec.rb:3 # A b`; PHPUnit: `1) A::b`; prove: `t/a.t (Wstat: ...`;
# jest: `FAIL a.js` and `● a › b`; vitest: ` FAIL  a.js > b`; AVA: `✘ [fail]: b`; jasmine: `1) a b` above a message.
FAILURES = (
    re.compile(r"^(?:FAILED|ERROR) (?!\()([^\s\[]+\[.*?\](?= - |$)|\S+(?= - |$))", re.MULTILINE),
    re.compile(r"^(?:FAIL|ERROR): (\S+ \([^)\n]*\))", re.MULTILINE),
    re.compile(r"^(?:FAIL|XPASS|ERROR): (\S+)$", re.MULTILINE),  # automake
    re.compile(r"^[ \t]*\d+/\d+ Test +#\d+: (\S.*?) \.*\*\*\*(?!Skipped|Not Run \(Disabled)", re.MULTILINE),  # CTest
    re.compile(r"^[ \t]*--- FAIL: (\S+)", re.MULTILINE),
    re.compile(r"^=== FAIL: (\S+ \S*) \(\d[\d.]*s\)$", re.MULTILINE),  # gotestsum
    re.compile(rf"^test ({_CARGO_NAME}){_CARGO_REST} \.\.\. FAILED$", re.MULTILINE),
    re.compile(r"^not ok \d+ - (.*\S)[ \t]*$", re.MULTILINE),
    re.compile(r"^(\S+)[ \t]+\(Wstat: \d+(?! Tests: \d+ Failed: 0\))[^\n]* Tests: ", re.MULTILINE),
    re.compile(r"^ +\d+\) (?:Failure|Error):\n(\S[^\n]*?)(?: \[[^\]\n]{0,300}\])?:?$", re.MULTILINE),
    re.compile(r"^(?:Failure|Error):\n(\S[^\n]*?#[^\n]*?)(?: \[[^\]\n]{0,300}\])?:?$", re.MULTILINE),  # Rails
    re.compile(r"^(?:Failure|Error): (\S[^\n]*?\([\w:]+\))", re.MULTILINE),
    re.compile(r"^rspec ((?:\S+|'[^'\n]+') # .*\S)[ \t]*$", re.MULTILINE),
    re.compile(
        r"^\d+\) ([\w\\]+::\w+(?: with data set (?:#\d+|\"[^\"\n]*\")|#\d+|@[^\n]*?(?= with data ))?)", re.MULTILINE
    ),
    re.compile(r"^\[  FAILED  \] (\S[^\n]*?) \(\d[\d.]* ms\)$", re.MULTILINE),  # GoogleTest, busted
    re.compile(r"^(?:Failure|Error) (?:->|\u2192) (\S+ @ \d+\n[^\n]+)$", re.MULTILINE),  # busted
    re.compile(r"^(?:FAIL (?=\S)|  \u25cf (?!Console$))(\S.*?)(?: \(\d[\d.]* ?m?s\))?$", re.MULTILINE),
    re.compile(r"^ (?:  )?FAIL  +(\S.*\S)[ \t]*$", re.MULTILINE),  # vitest, uvu
    re.compile(r"^\(fail\) (\S.*?)(?: \[\d[\d.]*m?s\])?$", re.MULTILINE),  # bun
    re.compile(r"^(\S.*?) \.\.\. FAILED \(\d[\d.,]*[m\u00b5]?s\)$", re.MULTILINE),  # deno
    re.compile(r"^\d+\) (.*\S)\n  Message:$", re.MULTILINE),
    re.compile(
        r"^[ \t]*[\u2715\u2716\u2718\u00d7] (?:\[fail\]: )?(.*?\S)(?: (?:\(\d[\d.]* ?m?s\)|\d[\d.]*m?s))?[ \t]*$",
        re.MULTILINE,
    ),  # jest, node, vitest
    re.compile(r"^  \d+\) (\S.*(?:\n {7,}\S.*){0,20}):$", re.MULTILINE),  # mocha's summary
    re.compile(r"^[ \t]+\d+\) (.*\S)[ \t]*$", re.MULTILINE),
    # Maven's Surefire, up to 2.19, up to 2.22 and from 3 on; not its line for a class. Gradle.
    re.compile(
        r"^(?!(?:\[ERROR\] +)?Tests run:)(?:\[ERROR\] +)?(\S.*?)(?<=\S)(?: --)? ++Time elapsed: [\d.,]+ s(?:ec)? +"
        r"<<< [EF]",
        re.MULTILINE,
    ),
    re.compile(r"^(?=.* > )(\S.*\S) FAILED$", re.MULTILINE),
)

# How runners say of one test after the other how it ended: its name, and the word. pytest, also by pytest-xdist;
# unittest, whose second line may be a docstring; go; cargo; TAP; minitest and GoogleTest; bun; deno, whose steps are
# within a test; vitest, whose time is no part of the name, and which names single tests below their file where they are
# slow; mocha and jest; jest's files, where it runs several.
ENDED = (
    re.compile(r"^(?P<name>(?>\S+?::).+?) (?P<word>PASSED|FAILED|ERROR)\b", re.MULTILINE),
    re.compile(r"^\[gw\d+\] \[ *\d+%\] (?P<word>PASSED|FAILED|ERROR) (?P<name>(?>\S+?::).*\S)[ \t]*$", re.MULTILINE),
    re.compile(r"^(?P<name>\w+ \([\w.]+\))(?:\n[^\n]+?)? \.\.\. (?P<word>ok|FAIL|ERROR)$", re.MULTILINE),
    re.compile(
        r"^[ \t]*\d+/\d+ Test +#\d+: (?P<name>\S.*?) \.* *(?:\*\*\*)?(?P<word>Passed|Failed|Timeout|Exception|Not Run)"
        r"(?! \(Disabled\))",
        re.MULTILINE,
    ),
    re.compile(r"^[ \t]*--- (?P<word>PASS|FAIL): (?P<name>\S+)", re.MULTILINE),
    re.compile(rf"^test (?P<name>{_CARGO_NAME}){_CARGO_REST} \.\.\. (?P<word>ok|FAILED)$", re.MULTILINE),
    re.compile(r"^(?P<word>ok|not ok) \d+ - (?P<name>.*\S)[ \t]*$", re.MULTILINE),
    re.compile(r"^(?P<name>\S[^\n#]*#test_[^\n]*?) = \d[\d.]* s = (?P<word>[.FE])$", re.MULTILINE),
    re.compile(r"^\[ +(?P<word>OK|FAILED) +\] (?P<name>\S[^\n]*?) \(\d[\d.]* ms\)$", re.MULTILINE),
    re.compile(r"^\((?P<word>pass|fail)\) (?P<name>\S.*?)(?: \[\d[\d.]*m?s\])?$", re.MULTILINE),
    re.compile(r"^(?P<name>\S.*?) \.\.\. (?P<word>ok|FAILED) \(\d[\d.,]*[m\u00b5]?s\)$", re.MULTILINE),
    re.compile(
        r"^ ?(?P<word>[\u2713\u00d7\u276f]) (?P<name>.*?\S)(?: \(\d+ tests?\b[^)\n]*\))? +\d[\d.]*m?s[ \t]*$",
        re.MULTILINE,
    ),
    re.compile(
        r"^[ \t]*(?P<word>[\u2713\u2714\u221a\u2715\u2716\u2718\u00d7]|\d+\)) (?:\[fail\]: )?(?P<name>.*?\S)"
        r"(?: \(\d[\d.]* ?m?s\))?[ \t]*$",
        re.MULTILINE,
    ),
    re.compile(r"^(?P<word>PASS|FAIL) (?P<name>\S+)(?: \(\d[\d.]* ?m?s\))?$", re.MULTILINE),
)

# How many tests ran, as runners sum it up: pytest, unittest, cargo, TAP, node, jest, vitest, mocha, rspec, minitest,
# test-unit, PHPUnit, prove, CTest, automake, GoogleTest, Maven, ExUnit.
PYTEST_SUM = re.compile(r"^=*[ \t]*((?:\d{1,9} [a-z]+(?: [a-z]+)?(?:, )?)+) in [\d.]+s", re.MULTILINE)
SUMS = (
    re.compile(r"^Ran (\d{1,9}) tests?\b", re.MULTILINE),
    re.compile(r"^running (\d{1,9}) tests?$", re.MULTILINE),
    re.compile(r"^(?:#|\u2139) tests (\d{1,9})$", re.MULTILINE),
    re.compile(r"^Tests:\s.*?\b(\d{1,9}) total$", re.MULTILINE),
    re.compile(r"^[ \t]*Tests {2}[^()\n]*\((\d{1,9})\)$", re.MULTILINE),
    re.compile(r"^[ \t]*(\d{1,9}) (?:passing|failing)\b", re.MULTILINE),
    re.compile(r"^(\d{1,9}) (?:example|spec)s?, ", re.MULTILINE),
    re.compile(r"^(\d{1,9}) (?:runs|tests), \d+ assertions, ", re.MULTILINE),
    re.compile(r"^(?:OK \(|Tests: )(\d{1,9})(?: tests?)?, (?:\d+ )?[Aa]ssertions?\b", re.MULTILINE),
    re.compile(r"^Files=\d+, Tests=(\d{1,9}),", re.MULTILINE),
    re.compile(r"^\d+% tests passed, \d+ tests? failed out of (\d{1,9})$", re.MULTILINE),
    re.compile(r"^# TOTAL: +(\d{1,9})$", re.MULTILINE),
    re.compile(r"^\[=+\] (\d{1,9}) tests? from .* ran\b", re.MULTILINE),
    re.compile(r"\bTests run: (\d{1,9})(?:, \w+: \d+)*[ \t]*$", re.MULTILINE),  # of each module, not of each class
    re.compile(r"^(?:\d+ \w+, )*?(\d{1,9}) tests?, \d+ failures?\b", re.MULTILINE),
    re.compile(r"^  Total: +(\d{1,9})$", re.MULTILINE),  # uvu
    re.compile(r"^DONE (?:\d+ runs, )?(\d{1,9}) tests?\b", re.MULTILINE),  # gotestsum
)


_GO_OUTPUT = re.compile(r'^\{"(?:Time|Action|ImportPath|Package)":.*\}$', re.MULTILINE)  # `go test -json`
_COLOUR = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # vitest writes colours into a pipe, too
_TAP = re.compile(r"^ *(?:not )?ok \d+\b", re.MULTILINE)
_TITLE = re.compile(r"( *)# (Subtest: )?(\S.*)")
_RESULT = re.compile(r"( *)((?:not )?ok \d+)( -)? +(\S.*?)(?: # time=[\d.]+m?s)?")
_SUMMED_UP = re.compile(r"(?:tests|suites|pass|fail|cancelled|skipped|todo|duration_ms)\b +[\d.]+|ok|failed .*")
_SPEC = re.compile(r"^(?:\u25b6 \S|\u2139 tests \d+$)", re.MULTILINE)
_IN_SUITE = re.compile(r"((?:  )*)([\u25b6\u2714\u2716]) (\S.*)")
_AGAIN = "\n\u2716 failing tests:\n"
_LONGEST = 200  # characters of a title
_WAIVED = re.compile(r"(?:^| )# *(?:skip|todo)\b", re.IGNORECASE)


def uncoloured(output: str) -> str:
    """The output as it is read: without the sequences by which terminals show colours, and of `go test -json` what
    the same tests print without that option."""
    return _COLOUR.sub("", _plain(output) if _GO_OUTPUT.search(output) else output)


def _plain(output: str) -> str:
    """What the events of `go test -json` print, one package behind the other, since their lines come mixed."""
    printed: dict[str, list[str]] = {"": []}
    for line in output.splitlines(keepends=True):
        event = _event(line) if _GO_OUTPUT.match(line.rstrip()) else None
        if event is None:
            printed[""].append(line)
        elif event.get("Action") in ("output", "build-output"):
            of = str(event.get("Package") or event.get("ImportPath") or "")
            printed.setdefault(of, []).append(str(event.get("Output", "")))
    return "\n".join("".join(lines) for lines in printed.values() if lines)


def _event(line: str) -> dict[str, object] | None:
    try:
        event = of_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def readable(output: str) -> str:
    """The output as the patterns above read it: without colours, and each result of TAP with its whole name.

    Within a subtest or a suite (node, Test::More, node-tap) that is `outer > inner`; tape writes a title above its
    assertions.
    """
    output = uncoloured(output)
    if _SPEC.search(output):
        output = "\n".join(_with_suites(output))
    return "\n".join(_with_titles(output.split("\n"))) if _TAP.search(output) else output


def _with_suites(output: str) -> Iterator[str]:
    """What Node's reporter `spec` prints, each result with the names of what it is in; without those that are told
    again at the end, with less of a name."""
    above: list[str] = []
    for line in (output.rpartition(_AGAIN)[0] or output).split("\n"):
        if found := _IN_SUITE.fullmatch(line):
            indent, mark, name = found.groups()
            if mark == "\u25b6":
                above[len(indent) // 2 :] = [name[:_LONGEST]]
            else:
                line = f"{mark} {' > '.join([*above[: len(indent) // 2], name])}"
        yield line


def _with_titles(lines: list[str]) -> Iterator[str]:
    above: list[str] = []  # names of subtests, the outermost first
    title = ""  # of tape
    for line in lines:
        if told := _RESULT.fullmatch(line):
            indent, word, dash, name = told.groups()
            outer = above[: len(indent) // 4] if dash else [title] if title else []
            if not _WAIVED.search(name):
                yield f"{word} - {' > '.join([*outer, name])}"
            continue
        yield line
        if found := _TITLE.fullmatch(line):
            if found[2]:
                above[len(found[1]) // 4 :] = [found[3][:_LONGEST]]
            elif not _SUMMED_UP.fullmatch(found[3]):
                title = found[3][:_LONGEST]
