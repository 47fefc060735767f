"""The files that judge a candidate: a candidate that adds or changes one loses its votes."""

import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from bot.patch.encoding import UTF_8
from bot.patch.inline_tests import rewrites_tests
from bot.patch.manifests import harmless
from bot.records import FileChange

Read = Callable[[str], str | None]

# Read by a test runner, or by the interpreter when it starts, in any folder. Of some, `bot.patch.manifests` knows parts
# that may change.
_CONFIGURATION = frozenset(
    [
        "conftest.py",
        "pytest.ini",
        ".pytest.ini",
        "pytest.toml",
        ".pytest.toml",
        "tox.ini",
        "setup.cfg",
        "noxfile.py",
        "pyproject.toml",
        "sitecustomize.py",
        "usercustomize.py",
        ".coveragerc",
        "package.json",
        ".npmrc",
        ".mocharc.js",
        ".mocharc.cjs",
        ".mocharc.json",
        ".mocharc.yml",
        ".mocharc.yaml",
        "mocha.opts",
        ".nycrc",
        "Makefile",
        "makefile",
        "GNUmakefile",
        "phpunit.xml",
        "phpunit.xml.dist",
        ".rspec",
        "Rakefile",
        "Cargo.toml",
        "go.mod",
        "go.work",
        "composer.json",
        "pom.xml",
        "build.gradle",
        "build.gradle.kts",
        "settings.gradle",
        "settings.gradle.kts",
        "gradle.properties",
        "mix.exs",
        "deno.json",
        "deno.jsonc",
        "bunfig.toml",
        "tsconfig.json",
        ".babelrc",
        ".babelrc.json",
        ".swcrc",
        ".taprc",
        ".c8rc.json",
        ".jestrc",
        "jasmine.json",
        "hatch.toml",
        "justfile",
        "Justfile",
        ".justfile",
        "Taskfile.yml",
        "Taskfile.yaml",
        "turbo.json",
        "nx.json",
        "rust-toolchain",
        "rust-toolchain.toml",
        "build.rs",
        "nose.cfg",
        ".noserc",
        "unittest.cfg",
        "vitest.workspace.json",
        "jest.config.json",
        ".yarnrc",
        ".yarnrc.yml",
        ".pnpmfile.cjs",
        "pnpm-workspace.yaml",
        "lerna.json",
        "phpunit.dist.xml",
        "codeception.yml",
        "behat.yml",
        "Gemfile",
        "Gemfile.lock",
        "gems.rb",
        ".simplecov",
        ".proverc",
        "Makefile.PL",
        "Build.PL",
        ".busted",
        "gradlew",
        "mvnw",
        "libs.versions.toml",
        "build.sbt",
        "build.sc",
        "deps.edn",
        "project.clj",
        "CMakeLists.txt",
        "CTestConfig.cmake",
        "CTestCustom.cmake",
        "meson.build",
        "SConstruct",
        "wscript",
        "MODULE.bazel",
        "WORKSPACE",
        "WORKSPACE.bazel",
        "rebar.config",
        "Package.swift",
        "dart_test.yaml",
        "pubspec.yaml",
        "cabal.project",
        "stack.yaml",
        "shard.yml",
        "Directory.Build.props",
        "Directory.Build.targets",
    ]
)
# The same tools read these under several names. `.env` is read before tests by many a tool; its templates are not.
_CONFIGURATION_NAME = re.compile(
    r"(?:jest|vite|vitest|karma|ava|playwright|cypress|babel|wdio|nightwatch|webpack|jasmine|mocha|protractor|nyc"
    r"|web-test-runner|testem|cucumber)"
    r"\.(?:config|conf|setup|workspace)(?:\.[\w-]+)?\.(?:[cm]?[jt]sx?|json)|.*\.runsettings"
    r"|\.(?:mocha|nyc|c8|babel|swc|tap|ava|jest|testcafe|lab)rc(?:\.\w+)?|(?:ts|js)config(?:\.[\w.-]+)?\.json|jest-preset\.\w+"
    r"|setupTests\.[jt]sx?|testem\.\w+|cucumber\.(?:[cm]?js|ya?ml|json)|package\.(?:ya?ml|json5)|jasmine\.\w+"
    r"|\.env(?!.*\b(?:example|sample|template|dist)\b)(?:\..*)?|node\.config\.json"
    r"|[Rr]akefile(?:\.rb)?|.*(?:test|spec|ci)\w*\.rake|\.rspec.*|Makefile\.(?:am|in|inc)|makefile\.inc|.*\.(?:mk|mak|cmake)|configure"
    r"|.*\.gradle(?:\.kts)?|junit-platform\.properties|org\.junit\..*"
    r"|(?:phpspec|behat|codeception)(?:\.dist)?\.ya?ml(?:\.dist)?|kahlan-config\.php|\.?atoum\.php"
)
# Of Go, Ruby and PHP; and what Rake loads by its folder.
_VENDORED = re.compile(r"vendor/(?:[^/]*\.|bundle/|gems/|cache/|composer/|bin/|autoload|.*\.php)|rakelib/")
# What an installer writes, or what is found in the place of it.
_INSTALLED = frozenset(
    [
        "node_modules",
        "__mocks__",
        "site-packages",
        "dist-packages",
        "__pypackages__",
        ".venv",
        "venv",
        ".cargo",
        ".mvn",
        ".bundle",
        ".yarn",
        "buildSrc",
    ]
)
# What an installer writes: an entry point there loads a plugin into the test runner.
_METADATA_FOLDER = re.compile(r".*\.(?:dist-info|egg-info|egg)")
_LOADED = (".pth", ".pyc", ".pyo", ".so", ".pyd", ".dylib", ".node")  # run, or loaded in the place of what can be read
# Top-level modules that tests import and candidates have no business replacing.
_TAKEN = sys.stdlib_module_names | frozenset(
    [
        "pytest",
        "_pytest",
        "pluggy",
        "iniconfig",
        "py",
        "exceptiongroup",
        "pytest_asyncio",
        "anyio",
        "coverage",
        "pytest_cov",
        "xdist",
        "hypothesis",
        "nose",
        "nose2",
        "mock",
        "setuptools",
        "pkg_resources",
        "pip",
        "packaging",
    ]
)
_TEST_NAME = re.compile(
    r"test_.*\.py|.*_tests?\.(py|go|rb|c|cc|cpp|exs|dart|php|sh|[cm]?[jt]sx?)|tests?\.py|.*[.-](test|spec)\.[cm]?[jt]sx?"
    r"|.*_spec\.(rb|lua|js|ts)|.*(Test|Tests|Spec)\.(java|kt|scala|groovy|cs|php|swift)|.*\.bats"
)
# Names that runners of JavaScript look for, too, and a deeper folder `test`: not where product code may have them.
_NESTED = re.compile(
    r"(?!(?:.*/)?(?:lib|src)/)(?:.*/)?(?:tests?\.(?:[cm]?[jt]sx?|rb)|test-[^/]*\.[cm]?[jt]sx?)"
    r"|(?!(?:.*/)?lib/)(?:(?!src/)[^/]+/)*(?:src/)?test/.*(?<!\.py)"
)
# Code that runners and helpers of tests load by its name or its folder.
_HELPER = re.compile(
    r"__init__\.py|(?:.*(?:_helper|[_-]setup|bootstrap|hooks?)|set_?up|helper|index|init)\.(?:py|rb|php|[cm]?[jt]sx?|sh)"
    r"|(?:.*/)?support/(?:.*/)?[^/]*\.(?:py|rb|php|[cm]?[jt]sx?|sh)"
)
_TEST_FOLDERS = frozenset({"tests", "__tests__"})  # in any folder
_TOP_TEST_FOLDERS = frozenset({"test", "spec", "t"})  # deeper ones may be product code: django/test, lib/rack/test


def _unread(path: str) -> None:
    """For callers that know paths alone: every change of a manifest is a judge's."""


def is_configuration(path: str) -> bool:
    """Whether the file configures a test runner or runs when the interpreter starts."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return (
        name in _CONFIGURATION
        or _CONFIGURATION_NAME.fullmatch(name) is not None
        or name.endswith(_LOADED)
        or any(_METADATA_FOLDER.fullmatch(folder) for folder in folders)
        or not _INSTALLED.isdisjoint(folders)
        or _VENDORED.match(path) is not None
    )


def shadows(path: str, exists: Callable[[str], bool]) -> bool:
    """Whether a new file of the path could be imported in the place of a standard module, or of a test tool's.

    In any folder that is no package: manifests, tests and `PYTHONPATH` make import roots of them.
    """
    *folders, name = PurePosixPath(path).parts or ("",)
    if name == "__init__.py":
        name = folders.pop() + ".py" if folders else ""
    above = "/".join([*folders, "__init__.py"])
    return name.endswith(".py") and name.removesuffix(".py") in _TAKEN and not (folders and exists(above))


def is_test(path: str) -> bool:
    """Whether the path looks like a file of the repository's own tests."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return (
        bool(_TEST_NAME.fullmatch(name))
        or not _TEST_FOLDERS.isdisjoint(folders)
        or (bool(folders) and folders[0] in _TOP_TEST_FOLDERS)
        or _NESTED.fullmatch(path) is not None
    )


def is_judge(path: str, exists: Callable[[str], bool], programs: Collection[str] = ()) -> bool:
    """Whether a change of the path is never applied, but for harmless ones of manifests.

    That is configuration, a test file that the repository has, new code among tests that is no test itself, since
    runners and helpers load it before them, a new module that would be imported in the place of another, and
    `programs`: what the test command runs.
    """
    if is_configuration(path) or path in programs:
        return True
    if exists(path):
        return is_test(path)
    return shadows(path, exists) or (is_test(path) and _loaded(path))


def _loaded(path: str) -> bool:
    """Whether a new file among tests is code that others load."""
    name = PurePosixPath(path).name
    return not _TEST_NAME.fullmatch(name) and any(map(_HELPER.fullmatch, (name, path)))


def _judges(change: FileChange, exists: Callable[[str], bool], read: Read, programs: Collection[str] = ()) -> bool:
    if not is_judge(change.path, exists, programs):
        return False
    if not exists(change.path) or change.text is None or change.encoding != UTF_8:
        return True
    return not harmless(change.path, read(change.path), change.text)


def trusted(
    changes: Sequence[FileChange], exists: Callable[[str], bool], read: Read = _unread
) -> tuple[FileChange, ...]:
    """The changes without those of judges: what a sandbox applies. `read`: the text of a file of the base tree."""
    return tuple(change for change in changes if not _judges(change, exists, read))


def touched_judges(
    changes: Sequence[FileChange],
    exists: Callable[[str], bool],
    read: Read = _unread,
    programs: Collection[str] = (),
) -> str:
    """Why the candidate is disqualified, such as `changes conftest.py`, or "". `exists`, `read`: of the base tree;
    `programs`: what the repository's test command runs of it, see `test_programs`.

    New test files are allowed, and new tests in a file of Rust: a fix may come with its test. So are changes of
    manifests that touch nothing that tests read.
    """
    said = []
    for change in changes:
        if _judges(change, exists, read, programs):
            verb = "adds" if not exists(change.path) else "deletes" if change.text is None else "changes"
            said.append(f"{verb} {change.path}")
        elif rewrites_tests(change.path, read(change.path) if exists(change.path) else None, change.text):
            said.append(f"changes the tests in {change.path}")
    return ", ".join(said[:3]) + (f" and {len(said) - 3} more" if len(said) > 3 else "")
