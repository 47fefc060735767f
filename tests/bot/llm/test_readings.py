import pytest

from bot.llm.readings import named_paths, parse_listing, parse_readings
from bot.patch.apply import Problem
from bot.records import FinishReason, Reply, Summary

KNOWN = ["pkg/a.py", "pkg/b.py", "lib/a.py"]


def reply(text: str, *, cut: bool = False) -> Reply:
    return Reply(text=text, finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("<read>\npkg/b.py\npkg/a.py\n</read>", ("pkg/b.py", "pkg/a.py")),
        ("I think.\n<read>\n1. `pkg/b.py` - the parser\n- ./pkg/a.py\n</read>\nDone.", ("pkg/b.py", "pkg/a.py")),
        ("<read>\nlib/a.py\n</read>\nNo:\n<read>\nb.py\r\n</read>", ("pkg/b.py",)),
        ("```\npkg/a.py\n```", ("pkg/a.py",)),
        ("<read>\npkg/a.py\npkg/a.py\nnowhere.py\n", ("pkg/a.py",)),
    ],
)
def test_listing(text: str, paths: tuple[str, ...]) -> None:
    assert parse_listing(reply(text), KNOWN) == paths


@pytest.mark.parametrize("text", ["", "a.py", "none of them", "<read>\n</read>"])
def test_listing_garbled(text: str) -> None:
    assert isinstance(parse_listing(reply(text), KNOWN), Problem)


def test_an_ambiguous_name_is_none() -> None:
    assert named_paths(["a.py", "b.py"], KNOWN) == ("pkg/b.py",)


A, B = Summary(path="pkg/a.py", relevant=True, text="it is"), Summary(path="pkg/b.py", relevant=False)


@pytest.mark.parametrize(
    "text",
    [
        '<relevant path="pkg/a.py">\nit is\n</relevant>\n<irrelevant path="pkg/b.py"/>',
        "<irrelevant path='pkg/b.py' />\n- <relevant path=pkg/a.py>it\nis</relevant>",
        '<irrelevant path="pkg/a.py"/> no:\n<irrelevant path="b.py">\n<relevant path="pkg/a.py">it is',
        '<relevant file="pkg/a.py">it is\r\n</relevant>\r\n<irrelevant pkg/b.py/>',
    ],
)
def test_readings(text: str) -> None:
    found = parse_readings(reply(text), KNOWN)
    assert not isinstance(found, Problem)
    assert sorted(found, key=lambda summary: summary.path) == [A, B]


def test_one_verdict_without_a_path_is_about_all() -> None:
    assert parse_readings(reply("<relevant>\nx\n</relevant>"), KNOWN[:2]) == (
        A.model_copy(update={"text": "x"}),
        B.model_copy(update={"text": "x", "relevant": True}),
    )
    assert isinstance(parse_readings(reply("I can't say"), KNOWN), Problem)
    assert isinstance(parse_readings(reply('<relevant path="other.py">x</relevant>'), KNOWN), Problem)


def test_paths_are_read_back_as_they_are_meant() -> None:
    known = ['pkg/a"<b>.py', "pkg/c\nd.py", "pkg/e.py"]
    said = "<read>\npkg/c&#10;d.py\npkg/a&quot;&lt;b&gt;.py\n</read>"
    assert parse_listing(reply(said), known) == ("pkg/c\nd.py", 'pkg/a"<b>.py')
    (verdict,) = parse_readings(reply('<relevant path="pkg/a&quot;&lt;b&gt;.py">\nx\n</relevant>'), known[:1])  # type: ignore[misc]
    assert verdict == Summary(path=known[0], relevant=True, text="x")
