import pytest

from bot.patch.protected_files import is_test, touched_judges, trusted
from bot.records import FileChange

EXISTING = {
    "tests/test_a.py",
    "setup.cfg",
    "pkg/core.py",
    "pkg/__init__.py",
    "django/test/client.py",
    "web/app.spec.ts",
    "types/__init__.py",
}


def changes(*paths: str, text: str | None = "x") -> tuple[FileChange, ...]:
    return tuple(FileChange(path=path, text=text) for path in paths)


def exists(path: str) -> bool:
    return path in EXISTING


@pytest.mark.parametrize(
    "path",
    [
        *("tests/test_a.py", "test/helper.rb", "pkg/test_core.py", "a/core_test.go", "web/app.spec.ts"),
        *(
            "x/tests/data.json",
            "src/__tests__/a.js",
            "spec/a_spec.rb",
            "src/test/FooTest.java",
            "tests.py",
            "check.bats",
            "test.js",
            "test.rb",
            "packages/a/test.mjs",
            "test-a.js",
            "a_test.ts",
            "packages/a/test/helpers.js",
            "app/src/test/java/a/Helper.java",
        ),
    ],
)
def test_what_is_a_test(path: str) -> None:
    assert is_test(path)


@pytest.mark.parametrize(
    "path",
    [
        "pkg/core.py",
        "django/test/client.py",
        "numpy/testing/utils.py",
        "contest.py",
        "latest.js",
        "attest_b.py",
        "lib/test.js",
        "src/test-utils.js",
        "lib/rack/test/utils.rb",
        "src/a/test/b.ts",
        "a/latest-b.js",
    ],
)
def test_what_is_no_test(path: str) -> None:
    assert not is_test(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("conftest.py", "adds conftest.py"),
        ("deep/down/conftest.py", "adds deep/down/conftest.py"),
        ("sitecustomize.py", "adds sitecustomize.py"),
        ("usercustomize.py", "adds usercustomize.py"),
        ("x.pth", "adds x.pth"),
        ("pytest.ini", "adds pytest.ini"),
        ("tox.ini", "adds tox.ini"),
        ("setup.cfg", "changes setup.cfg"),
        ("tests/test_a.py", "changes tests/test_a.py"),
        ("web/app.spec.ts", "changes web/app.spec.ts"),
        ("pyproject.toml", "adds pyproject.toml"),
        ("web/package.json", "adds web/package.json"),
        ("Makefile", "adds Makefile"),
        ("jest.config.mjs", "adds jest.config.mjs"),
        ("vitest.config.ts", "adds vitest.config.ts"),
        (".mocharc.yml", "adds .mocharc.yml"),
        ("phpunit.xml", "adds phpunit.xml"),
        ("evil.dist-info/entry_points.txt", "adds evil.dist-info/entry_points.txt"),
        ("src/evil.egg-info/PKG-INFO", "adds src/evil.egg-info/PKG-INFO"),
        ("tests/__init__.py", "adds tests/__init__.py"),
        ("pkg/tests/unit/__init__.py", "adds pkg/tests/unit/__init__.py"),
        ("unittest.py", "adds unittest.py"),
        ("json/__init__.py", "adds json/__init__.py"),
        ("src/pytest.py", "adds src/pytest.py"),
        ("_pytest/__init__.py", "adds _pytest/__init__.py"),
        ("pkg/core.pyc", "adds pkg/core.pyc"),
        ("types/__init__.py", ""),
        ("pkg/json.py", ""),
        ("tools/json.py", "adds tools/json.py"),
        ("tests/difflib.py", "adds tests/difflib.py"),
        ("python/lib/pytest/__init__.py", "adds python/lib/pytest/__init__.py"),
        ("node_modules/chai/index.js", "adds node_modules/chai/index.js"),
        ("web/__mocks__/fs.js", "adds web/__mocks__/fs.js"),
        (".venv/lib/python3.12/site-packages/x.py", "adds .venv/lib/python3.12/site-packages/x.py"),
        (".cargo/config.toml", "adds .cargo/config.toml"),
        ("vendor/modules.txt", "adds vendor/modules.txt"),
        ("go.work", "adds go.work"),
        ("tsconfig.json", "adds tsconfig.json"),
        ("vite.config.ts", "adds vite.config.ts"),
        ("vitest.workspace.ts", "adds vitest.workspace.ts"),
        ("wdio.local.conf.js", ""),
        ("wdio.conf.local.ts", "adds wdio.conf.local.ts"),
        ("crates/a/build.rs", "adds crates/a/build.rs"),
        ("Gemfile", "adds Gemfile"),
        (".yarn/releases/yarn-4.cjs", "adds .yarn/releases/yarn-4.cjs"),
        ("buildSrc/src/main/java/A.java", "adds buildSrc/src/main/java/A.java"),
        ("CMakeLists.txt", "adds CMakeLists.txt"),
        *((path, f"adds {path}") for path in (".env", "api/.env.test", "babel.config.json", ".babelrc.cjs")),
        *(
            (path, f"adds {path}")
            for path in (".mocharc.jsonc", ".nycrc.yml", "tsconfig.base.json", "src/setupTests.ts")
        ),
        *((path, f"adds {path}") for path in ("package.yaml", "rakefile", "lib/tasks/test.rake", ".rspec-local")),
        *((path, f"adds {path}") for path in ("config.mk", "cmake/run.cmake", "gradle/test.gradle", "Makefile.in")),
        *((path, f"adds {path}") for path in ("src/test/resources/junit-platform.properties", "phpspec.yml.dist")),
        *((path, f"adds {path}") for path in ("a/META-INF/services/org.junit.jupiter.api.extension.Extension",)),
        *((path, f"adds {path}") for path in ("vendor/github.com/a/assert/a.go", "vendor/autoload.php")),
        *((path, f"adds {path}") for path in ("vendor/bin/phpunit", "vendor/a/compare/src/A.php", "rakelib/a.rake")),
        *((path, f"adds {path}") for path in ("spec/support/all.rb", "spec/spec_helper.rb", "test/helper.js")),
        *((path, f"adds {path}") for path in ("tests/bootstrap.php", "test/unit/hooks.mjs", "tests/setup.ts")),
        *((path, "") for path in (".env.example", "src/env.ts", "vendor/jquery/jquery.js", "src/support/all.rb")),
        *((path, "") for path in ("tests/data/index.html", "spec/setup_spec.rb", "test/index.test.js", "src/index.js")),
        ("pkg/new/__init__.py", ""),
        ("json/data.py", ""),
        ("jsonx.py", ""),
        ("config/app.config.js", ""),
        ("tests/test_new.py", ""),
        ("pkg/core.py", ""),
        ("django/test/client.py", ""),
    ],
)
def test_attack_32_what_touches_a_judge_loses_its_vote(path: str, said: str) -> None:
    assert touched_judges(changes("pkg/core.py", path), exists) == said
    assert trusted(changes(path), exists) == (() if said else changes(path))


def test_what_the_test_command_runs_is_a_judge() -> None:
    said = touched_judges(changes("pkg/core.py", "pkg/run.sh"), exists, programs={"pkg/run.sh"})
    assert said == "adds pkg/run.sh"


def test_attack_33_what_runs_before_all_tests_of_go_is_a_judge() -> None:
    for body in ("func TestMain(m *testing.M) {", "func init() {"):
        new = FileChange(path="pkg/main_test.go", text=f"package pkg\n\n{body}\n}}\n")
        assert touched_judges((new,), exists) == "changes the tests in pkg/main_test.go"
    new = FileChange(path="pkg/more_test.go", text="package pkg\n\nfunc TestMore(t *testing.T) {}\n")
    assert not touched_judges((new,), exists)


def test_a_deleted_test_is_named_and_many_are_counted() -> None:
    assert touched_judges(changes("tests/test_a.py", text=None), exists) == "deletes tests/test_a.py"
    many = changes(*(f"{letter}/conftest.py" for letter in "abcde"))
    assert touched_judges(many, exists) == "adds a/conftest.py, adds b/conftest.py, adds c/conftest.py and 2 more"
