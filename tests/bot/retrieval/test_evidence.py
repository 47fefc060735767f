import pytest

from bot.records import SourceFile
from bot.retrieval.evidence import central, evidence, is_peripheral

WEIGHTS = {"parse_line": 8.0, "Quote": 4.0, "comma": 2.0, "the": 0.1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def parse_line(text):\n    return the\n", "defines parse_line"),
        ("class Quote:\n    comma = parse_line\n", "defines Quote; has parse_line, comma"),
        ("x = the\n", ""),
        ("", ""),
    ],
)
def test_evidence(text: str, said: str) -> None:
    assert evidence(text, WEIGHTS) == said


def test_evidence_is_bounded() -> None:
    weights = {f"name{i}": 5.0 for i in range(100)}
    assert evidence(" ".join(weights), weights).count(",") == 5
    assert evidence("x", {}) == ""


@pytest.mark.parametrize(
    "path",
    ["Makefile", "docs/make.bat", "static/site.css", "a/b.SCSS", "Cargo.lock", "logo.png", "Dockerfile", "setup.cfg"],
)
def test_peripheral(path: str) -> None:
    assert is_peripheral(path)


@pytest.mark.parametrize("path", ["make.py", "src/css.py", "pkg/lock.py", "views/page.html", "CMakeLists.txt"])
def test_not_peripheral(path: str) -> None:
    assert not is_peripheral(path)


def test_what_the_issue_names_is_central_and_so_is_what_a_repository_consists_of() -> None:
    code = [SourceFile(path=f"pkg/m{i}.py", text="") for i in range(3)]
    extra = [SourceFile(path=path, text="") for path in ("Makefile", "docs/make.bat")]
    assert central([*code, *extra], "add is wrong") == code
    assert central([*code, *extra], "`make.bat html` fails on Windows") == [*code, extra[1]]
    sheets = [SourceFile(path=f"css/s{i}.css", text="") for i in range(5)]
    assert central([*code, *sheets], "the margin is wrong") == [*code, *sheets]
