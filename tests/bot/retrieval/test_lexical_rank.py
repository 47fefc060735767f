import pytest

from bot.records import Issue, IssueComment
from bot.retrieval.lexical_rank import is_named, rank, terms, without_own

FILES = [
    ("pkg/__init__.py", "from pkg.strings import wrap_lines\n"),
    ("pkg/strings.py", "def wrap_lines(text):\n    return text\n"),
    ("pkg/other.py", "# returns the expected value, as should all\ndef other():\n    return wrap_lines('')\n"),
    ("pkg/colors.py", "def paint():\n    pass\n"),
]


def order(title: str, body: str = "") -> list[str]:
    return [path for path, _ in rank(f"{title}\n{body}", FILES)]


def test_where_a_name_is_defined_comes_first() -> None:
    assert order("wrap_lines() returns the wrong value")[0] == "pkg/strings.py"
    assert order("`paint` is broken")[0] == "pkg/colors.py"


def test_named_paths_modules_and_files_come_first() -> None:
    assert order("something in pkg/other.py")[0] == "pkg/other.py"
    assert order("something in pkg.colors is off, expected value")[0] == "pkg/colors.py"
    assert order("see colors.py")[0] == "pkg/colors.py"


TRACES = {
    "src/click/core.py": '  File "/me/.venv/lib/python3.11/site-packages/click/core.py", line 1157, in main',
    "src/click/types.py": r'  File "C:\venv\Lib\site-packages\click\types.py", line 12',
    "src/Symfony/Component/Yaml/Inline.php": "#0 /app/vendor/symfony/yaml/Inline.php(123): parse()",
    "packages/react-dom/src/client.js": "at render (/app/node_modules/react-dom/src/client.js:1:2)",
    "lib/router/index.js": "at next (/app/node_modules/express/lib/router/index.js:280:10)",
    "internal/codec/json.go": "/go/pkg/mod/github.com/a/b@v1.2.3/internal/codec/json.go:12 +0x1d",
    "manage.py": "I ran ./manage.py and",
}


@pytest.mark.parametrize("path", TRACES)
def test_a_trace_names_the_file_where_it_is_installed(path: str) -> None:
    assert is_named(path, TRACES[path])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core.py", "site-packages/click/core.py"),
        ("other/core.py", "site-packages/click/core.py"),
        ("click/core.py", "myclick/core.py"),
        ("crates/core/src/lib.rs", ".cargo/registry/other-0.1/src/lib.rs:12"),
        ("packages/a/src/client.js", "node_modules/react-dom/src/client.js"),
    ],
)
def test_another_file_of_that_name_is_not_named(path: str, text: str) -> None:
    assert not is_named(path, text)


def test_common_words_weigh_little() -> None:
    weights = terms("The expected result\ncall `frobnicate(x)`; see makeThing and plain words")
    assert weights["expected"] < weights["plain"] < weights["makeThing"] < weights["frobnicate"]


def test_comments_of_the_issue_count() -> None:
    issue = Issue(title="broken", body="", comments=(IssueComment(author="a", body="it is `paint()`"),))
    assert rank(issue.text, FILES)[0][0] == "pkg/colors.py"


def test_a_path_that_shares_parts_of_the_issues_names_comes_first() -> None:
    files = [
        ("src/Component/Console/Dumper.php", "dump"),
        ("src/Component/Yaml/Dumper.php", "dump"),
        ("src/Component/Yaml/HTTPTag.php", ""),
    ]
    assert rank("[Yaml] dump keeps comments", files)[0][0] == "src/Component/Yaml/Dumper.php"
    assert rank("`http_tag()` is lost", files)[0][0] == "src/Component/Yaml/HTTPTag.php"


def test_nothing_in_common_is_no_score() -> None:
    assert all(score == 0 for _, score in rank("zzz", FILES))
    assert rank("", []) == []


REPORT = """Nothing is shown.

```python
@command()
@option(
    show_default=True,
)
def cmd(limit, Parser):
    total = limit + 1
    for entry in wrap_lines(total): ...
with paint() as painted: ...
```
"""


def test_names_that_only_the_issue_binds_count_as_plain_words() -> None:
    issue = Issue(title="", body=REPORT)
    defining = "class Parser:\n    limit = 3\n    cmd = paint\n"
    before, after = terms(issue.text), without_own(terms(issue.text), issue.text, [defining])
    assert {name for name in before if before[name] != after[name]} == {"cmd", "limit", "total", "entry", "painted"}
    assert {after[name] for name in ("cmd", "limit", "total", "entry", "painted")} == {1.0}


def test_names_in_javascript_that_only_the_issue_binds_count_as_plain_words() -> None:
    issue = Issue(title="", body="```js\nconst wanted = parseIt(source);\nfunction mine(taken) {}\n```")
    after = without_own(terms(issue.text), issue.text, ["function parseIt(text) {}"])
    assert {name for name, weight in after.items() if weight == 1.0} == {"wanted", "mine", "taken"}
