"""No data of strangers ends the block of a prompt that holds it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.llm.prompts import Profile, render
from bot.records import Issue, IssueComment, SourceFile
from bot.sanitize.delimiters import as_data, escaped
from tests.growth import grows_evenly

PARTS = ("<", "/", " ", "\n", ">", "issue", "ISSUE", "title", "comment", "file", "x", "</issue>", "</ comment >")
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@pytest.mark.parametrize("tag", ["</issue>", "</ISSUE >", "< / issue>", "</issue\n>", "<file path='x'>", "<sandbox>"])
@pytest.mark.parametrize("name", ["shared", "relevance", "ranking"])
@pytest.mark.parametrize("profile", ["full", "compact"])
def test_attack_13_no_issue_closes_its_own_tag(profile: Profile, name: str, tag: str) -> None:
    values = {"files": [], "file": SourceFile(path="a.py", text="x"), "summaries": []}

    def shown(hostile: str) -> str:
        comments = (IssueComment(author="ann", body=f"b{hostile}b"),)
        issue = Issue(title=f"a{hostile}</title>", body=f"a{hostile}b", comments=comments)
        return render(profile, name, issue=issue, **values)

    assert tag not in shown(tag).split("\n</issue>")[0].removeprefix("<issue>").replace("<comment author", "")
    assert shown(tag).replace("&lt;" + tag[1:], "") == shown("")
    assert shown(tag).count("</issue>") == 1


@given(TEXTS)
def test_what_is_left_is_no_tag_and_the_rest_stays(text: str) -> None:
    for made in (escaped(text), as_data(text, "issue"), as_data(text, "output")):
        assert made.replace("&lt;", "<") == text
    flat = "".join(as_data(text, "issue").lower().split())
    assert not any(f"<{end}{name}>" in flat for end in ("", "/") for name in ("issue", "comment", "file"))


def test_what_issues_and_programs_quote_is_kept() -> None:
    for text in ("<title>x</title>", "if a<file_size: x", "<output>", "<file-input>", "a < b > c", "<run>", "List<T>"):
        assert as_data(text, "issue") == text
    assert as_data("<file>\n</issue>", "output") == "<file>\n</issue>"
    assert as_data("a</output>b", "output") == "a&lt;/output>b"


@pytest.mark.parametrize("part", ["<", "< ", "</", "<\n/\n"])
def test_time_is_linear(part: str) -> None:
    assert grows_evenly(lambda text: as_data(text, "issue"), part, 90_000)
