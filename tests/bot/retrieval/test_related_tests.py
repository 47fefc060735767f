import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.records import Checkout
from bot.retrieval import source_files
from bot.retrieval.related_tests import related
from bot.retrieval.source_files import find_tests
from tests.checkouts import checkout_of


@pytest.mark.parametrize(
    ("path", "tests", "found"),
    [
        ("pkg/mod.py", {"tests/test_mod.py": "", "tests/test_other.py": ""}, ["tests/test_mod.py"]),
        ("src/pkg/_mod.py", {"tests/mod_test.py": ""}, ["tests/mod_test.py"]),
        (
            "nx/algorithms/dag.py",
            {"nx/classes/tests/test_dag.py": "", "nx/algorithms/tests/test_dag.py": ""},
            ["nx/algorithms/tests/test_dag.py", "nx/classes/tests/test_dag.py"],
        ),
        (
            "src/pkg/sub/fields.py",
            {
                "tests/test_a.py": "from pkg.sub.fields import split\n",
                "tests/test_b.py": "import pkg.sub.fields as f\n",
                "tests/test_c.py": "    from pkg.sub import other, fields\n",
                "tests/test_d.py": "from pkg.sub import fieldset\n",
                "tests/test_e.py": "import pkg\n",
                "tests/test_f.py": "from pkg.sub.fields.more import x\n",
            },
            ["tests/test_a.py", "tests/test_b.py", "tests/test_c.py"],
        ),
        (
            "src/pkg/routing/matcher.py",
            {"tests/test_map.py": "", "tests/test_routing.py": "from pkg import routing as r\n", "tests/test_.py": ""},
            ["tests/test_routing.py"],
        ),
        ("src/lib/matcher.js", {"test/lib.test.js": "", "test/.test.js": ""}, []),
        ("matcher.py", {"test_.py": ""}, []),
        ("pkg/__init__.py", {"tests/test_a.py": "import pkg\n", "tests/test_pkg.py": ""}, ["tests/test_pkg.py"]),
        ("pkg/sub/__init__.py", {"tests/test_a.py": "from pkg.sub import x\n"}, ["tests/test_a.py"]),
        (
            "src/parse.ts",
            {"src/parse.test.ts": "", "test/all.spec.ts": "import p from '../src/parse';\n", "test/x.test.ts": ""},
            ["src/parse.test.ts", "test/all.spec.ts"],
        ),
        ("lib/index.js", {"test/lib.test.js": "", "test/a.js": "require('../lib')"}, ["test/lib.test.js", "test/a.js"]),
        ("num/clamp.go", {"num/clamp_test.go": "", "num/all_test.go": "", "str/a_test.go": ""},
         ["num/clamp_test.go", "num/all_test.go"]),
        ("src/num.rs", {"tests/num.rs": "use demo::num;", "tests/other.rs": "fn x() {}"}, ["tests/num.rs"]),
        ("lib/clamp.rb", {"spec/clamp_spec.rb": ""}, ["spec/clamp_spec.rb"]),
        ("src/main/java/a/Clamp.java", {"src/test/java/a/ClampTest.java": "Clamp.of(1)"},
         ["src/test/java/a/ClampTest.java"]),
        ("packages/a/src/apkg/mod.py", {"packages/a/tests/test_x.py": "from apkg.mod import y\n",
                                        "packages/a/tests/test_y.py": "from apkg import mod\n",
                                        "packages/b/tests/test_z.py": "from bpkg.mod import y\n"},
         ["packages/a/tests/test_x.py", "packages/a/tests/test_y.py"]),
        ("tools/kunit/parser.py", {"tools/kunit/tool_test.py": "import parser\n",
                                   "tools/kunit/tests/test_b.py": "from parser import Counts\n",
                                   "tools/other/test_a.py": "import parser\n",
                                   "tools/kunit/test_c.py": "import parsers\n"},
         ["tools/kunit/tests/test_b.py", "tools/kunit/tool_test.py"]),
        ("pkg/sub/mod.py", {"pkg/sub/tests/test_a.py": "from ..mod import x\n",
                            "pkg/sub/tests/test_b.py": "from .. import (\n    other,\n    mod,\n)\n",
                            "pkg/tests/test_c.py": "    from ..sub.mod import x\n",
                            "pkg/tests/test_d.py": "from ...sub.mod import x\nfrom ..sub import model\n",
                            "pkg/sub/test_e.py": "from .mod import x\n",
                            "test_f.py": "from ...............mod import x\n"},
         ["pkg/sub/test_e.py", "pkg/sub/tests/test_a.py", "pkg/sub/tests/test_b.py", "pkg/tests/test_c.py"]),
        ("mod.py", {"tests/test_a.py": "from ..mod import x\n"}, ["tests/test_a.py"]),
        ("pkg/mod.py", {"tests/mod.test.js": "'mod'"}, []),
        ("pkg/mod.py", {}, []),
    ],
)  # fmt: skip
def test_related(path: str, tests: dict[str, str], found: list[str]) -> None:
    assert related([path], tests) == found


def test_the_most_important_file_comes_first_and_words_break_ties() -> None:
    tests = {"tests/test_a.py": "", "tests/test_b.py": "", "tests/more/test_b.py": "clamp"}
    assert related(["b.py", "a.py"], tests, ["clamp"]) == ["tests/more/test_b.py", "tests/test_b.py", "tests/test_a.py"]
    assert related(["tests/test_a.py"], tests) == [], "a test is not related to itself"


def test_a_test_of_the_package_that_says_what_the_issue_says_is_related() -> None:
    tests = {
        "tests/test_options.py": "import click\n" + "show_default " * 5,
        "tests/test_termui.py": "from click import echo\nshow_default\n",
        "tests/test_echo.py": "import click\n",
        "tests/test_words.py": "show_default",
        "tests/test_clicks.py": "import clicks\nshow_default\n",
    }
    paths = ["packages/click/src/click/core.py"]
    assert related(paths, tests, ["show_default"]) == ["tests/test_options.py", "tests/test_termui.py"]
    assert related(paths, tests) == []


def test_only_files_that_hold_tests_are_found(tmp_path: Path) -> None:
    files = ["tests/test_a.py", "tests/conftest.py", "tests/data.json", "tests/server.py", "pkg/a.py", "pkg/a_test.go",
             "web/a.spec.ts", "node_modules/x/a.test.js", "tests/static/a.css"]  # fmt: skip
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x = 1\n")
    found = find_tests(checkout_of(tmp_path), exclude=["web/**"])
    assert sorted(found) == ["pkg/a_test.go", "tests/test_a.py"]
    assert found["tests/test_a.py"] == "x = 1\n"


def test_tests_are_read_once_for_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("a\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    reads: list[object] = []

    def read(checkout: Checkout, exclude: Sequence[str]) -> dict[str, str]:
        reads.append(exclude)
        return {"t": "x"}

    monkeypatch.setattr(source_files, "_read_tests", read)
    checkout = checkout_of(tmp_path)
    assert find_tests(checkout) == find_tests(checkout_of(tmp_path)) == {"t": "x"}
    assert find_tests(checkout, ["web/*"]) == find_tests(checkout, ("web/*",)) == {"t": "x"}
    assert reads == [(), ["web/*"]]


def test_words_tell_only_where_nothing_else_does() -> None:
    tests = {
        "tests/test_routing.py": "import pkg.routing\n",
        "tests/test_http.py": "from pkg import http\nmatch localhost\n",
        "tests/test_rules.py": "from pkg.routing import rules\n",
    }
    paths = ["pkg/routing/rules.py"]
    assert related(paths, tests, ["match"]) == ["tests/test_rules.py", "tests/test_routing.py"]
    assert related(paths, {"tests/test_http.py": tests["tests/test_http.py"]}, ["match"]) == ["tests/test_http.py"]
