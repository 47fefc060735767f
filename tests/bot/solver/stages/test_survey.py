"""What the sandbox has: asked of a real one, read from what it prints, and told to models and people."""

from pathlib import Path

import pytest

from bot.errors import SandboxError
from bot.recipe.declared import Declared, declared
from bot.recipe.recipe import Asked
from bot.records import Ending, Execution, Fault, Obstacle, SandboxJob, Test
from bot.sandbox import open_sandbox
from bot.settings import SandboxSettings
from bot.solver.stages.survey import Survey, for_models, obstacles, own_packages, survey
from tests.fakes import FakeSandbox


@pytest.mark.parametrize(
    ("files", "declared", "expected"),
    [
        (["pkg/__init__.py", "pkg/a.py", "setup.py", "tests/__init__.py", "tests/test_a.py"], "", ("pkg",)),
        (["src/pkg/__init__.py", "docs/conf.py"], "", ("pkg",)),
        (["src/ns/pkg/__init__.py", "src/ns/pkg/a.py"], "", ("ns.pkg",)),
        (["python/pkg/__init__.py"], "", ("pkg",)),
        (["one.py", "setup.py", "test_one.py", "conftest.py"], "", ("one",)),
        (["big/__init__.py", "big/a.py", "my_pkg/__init__.py"], '[project]\nname = "my-pkg"', ("my_pkg", "big")),
        (["big/__init__.py", "big/a.py", "my_pkg/__init__.py"], "", ("big", "my_pkg")),
        ([f"p{i}/__init__.py" for i in range(9)], "", ("p0", "p1", "p2")),
        (["no-name/__init__.py", "examples/x/__init__.py"], "", ()),
        (["a.js"], "", ()),
        (["pkg/__init__.py", "tasks/__init__.py", "scripts/__init__.py", "hack/a/__init__.py"], "", ("pkg",)),
        (["tasks/__init__.py", "tasks/a.py"], '[project]\nname = "tasks"', ("tasks",)),
        (["one.py", "tasks.py", "noxfile.py"], "", ("one",)),
        (["tasks.py"], '[project]\nname = "tasks"', ("tasks",)),
    ],
)  # fmt: skip
def test_which_packages_are_the_repositorys_own(files: list[str], declared: str, expected: tuple[str, ...]) -> None:
    assert own_packages(files, Declared(text=declared)) == expected


async def asked(tmp_path: Path, files: dict[str, str]) -> Survey:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    sandbox = await open_sandbox(SandboxSettings(kind="process"), tmp_path, notice=lambda _: None)
    try:
        return await survey(sorted(files), declared(sorted(files), files.get), sandbox)
    finally:
        await sandbox.close()


async def test_a_real_sandbox_is_asked(tmp_path: Path) -> None:
    found = await asked(
        tmp_path,
        {
            "good/__init__.py": "print('noise')",
            "json5/__init__.py": "import no_such_module_anywhere",
            "last/__init__.py": "import os; os._exit(0)",
            "run.sh": "",
            "x.lua": "",
        },
    )
    assert found.python.startswith("3.")
    assert dict(found.imports) == {
        "good": "",
        "json5": "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        "last": "the import ended the process",
    }
    assert "pytest" in {name for name, _ in found.installed}
    assert "bash" in dict(found.tools)
    words = for_models(found, Declared(text="dependencies = ['pytest']"))
    assert "`import good` works." in words
    assert "`import json5` fails here: ModuleNotFoundError" in words
    assert "these are installed: pytest " in words
    assert [(o.fault, o.name) for o in obstacles(found)] == [
        (Fault.IMPORT_FAILS, "json5"),
        (Fault.IMPORT_FAILS, "last"),
    ]


async def test_an_installed_copy_is_not_the_repositorys_own(tmp_path: Path) -> None:
    found = await asked(tmp_path, {"deep/down/there/pytest/__init__.py": ""})
    assert found.broken[0][1].startswith("elsewhere: ")
    (obstacle,) = obstacles(found)
    assert (obstacle.fault, "elsewhere" in obstacle.detail) == (Fault.INSTALLED_COPY, False)
    assert "fails here" not in for_models(found, Declared())


@pytest.mark.parametrize("output", ["", "troop-survey nonsense", 'troop-survey ["import"]\ntroop-survey [1, 2, 3]'])
async def test_nonsense_is_no_survey(output: str) -> None:
    judge = FakeSandbox(lambda job: Execution(ending=Ending.EXITED, exit_code=1, output=output))
    assert await survey(["pkg/__init__.py"], Declared(), judge) == Survey()
    assert for_models(Survey(), Declared()) == ""
    assert obstacles(Survey()) == ()


async def test_a_sandbox_that_fails_leaves_it_empty() -> None:
    def fail(job: SandboxJob) -> Execution:
        raise SandboxError("gone")

    assert await survey(["pkg/__init__.py"], Declared(), FakeSandbox(fail)) == Survey()
    judge = FakeSandbox(fail)
    assert await survey(["README.md"], Declared(), judge) == Survey()
    assert judge.jobs == []


async def test_an_import_without_end_is_said() -> None:
    late = Execution(ending=Ending.TIMED_OUT, output='\ntroop-survey ["version", "3.11.2"]\n')
    found = await survey(["pkg/__init__.py"], Declared(), FakeSandbox(lambda job: late))
    assert found.imports == (("pkg", "the import did not end"),)


@pytest.mark.parametrize(
    ("text", "compiles"),
    [
        ('[build-system]\nbuild-backend = "maturin"\n', True),
        ("build-backend = 'mesonpy'\n", True),
        ("setup(\n    ext_modules=[Extension('a', ['a.c'])],\n)\n", True),
        ("setup(rust_extensions=[])\n", True),
        ('[[tool.setuptools.ext-modules]]\nname = "a"\n', True),
        ('build-backend = "setuptools.build_meta"\n# ext_modules = []\n', False),
        ('{"build-backend": "maturin"}', False),
    ],
)
def test_what_is_compiled_once_is_said_to_models_and_people(text: str, compiles: bool) -> None:
    found = Declared(text=text)
    assert found.compiles is compiles
    assert ("not compiled again for a patch" in for_models(Survey(python="3.12.1"), found)) is compiles
    assert found.uncompiled(["a.py", "README.md"]) == ()
    said = found.uncompiled(["a.py", "src/b.rs", "src/a.rs"])
    assert [words.split()[0] for words in said] == ["src/a.rs"][:compiles]


def test_a_file_that_the_build_writes_is_told_apart_from_what_is_not_installed() -> None:
    found = Survey(python="3.12.1", imports=(("pkg.sub", "ModuleNotFoundError: No module named 'pkg._version'"),))
    assert obstacles(found)[0].fault is Fault.NOT_BUILT
    other = Survey(python="3.12.1", imports=(("pkg", "ModuleNotFoundError: No module named 'pkgs'"),))
    assert obstacles(other)[0].fault is Fault.IMPORT_FAILS


def test_a_missing_interpreter_is_said() -> None:
    found = Survey(tools=(("node", ""), ("npm", "")))
    assert "Not there: node, npm" in for_models(found, Declared())
    assert obstacles(found) == (Obstacle(fault=Fault.NO_INTERPRETER, name="node"),)


async def test_a_toolchain_that_is_older_than_a_manifest_asks_for_is_said(tmp_path: Path) -> None:
    wanted = [
        Asked(tool=tool, wanted=">=99", source=source, least=(99,))
        for tool, source in {"python3": "pyproject.toml", "cmake": "CMakeLists.txt"}.items()
    ]
    (tmp_path / "a.py").write_text("")
    cmake = "cmake version 3.25.1"
    sandbox = await open_sandbox(SandboxSettings(kind="process"), tmp_path, notice=lambda _: None)
    try:
        found = await survey(["a.py"], Declared(), sandbox, wanted)
    finally:
        await sandbox.close()
    assert dict(found.tools).keys() == {"cmake"}, "asked though no file ends as CMake's do"
    old = obstacles(found.model_copy(update={"tools": (("cmake", cmake),)}), wanted)
    assert [(one.fault, one.name) for one in old] == [(Fault.TOO_OLD, "python:99"), (Fault.TOO_OLD, "")]
    assert old[0].detail == f"pyproject.toml asks for Python >=99, and {found.python} is there"
    assert old[1].detail == "CMakeLists.txt asks for CMake >=99, and 3.25.1 is there"
    assert obstacles(found) == ()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"src/a.ts": "", "node_modules/.bin/vitest": ""}, "ends with `npx vitest run FILE`"),
        ({"src/a.tsx": "", "jest.config.js": "", "node_modules/.bin/jest": ""}, "ends with `npx jest FILE`"),
        ({"src/a.ts": "", "node_modules/.bin/tsx": "", "node_modules/.bin/jest": ""}, "repository's own tsx"),
        ({"src/a.ts": ""}, "TypeScript script"),
    ],
)
async def test_how_typescript_is_tested_is_said(tmp_path: Path, files: dict[str, str], words: str) -> None:
    found = await asked(tmp_path, files)
    assert words in for_models(found, Declared())
    assert "Not there: vitest" not in for_models(found, Declared())


@pytest.mark.parametrize(
    ("node", "strips"), [("v22.17.1", False), ("v22.18.0", True), ("v26.12.1", True), ("v18.20.4", False), ("", False)]
)
def test_a_node_that_strips_types_runs_typescript(node: str, strips: bool) -> None:
    words = for_models(Survey(tools=(("node", node), ("tsx", ""), ("vitest", "here"))), Declared())
    assert ("`test_issue.mts`" in words) == strips
    assert ("does not run as it is" in words) != strips
    assert "ends with `npx vitest run FILE`." in words, "what else can be done where it fails"


async def test_javascript_with_declarations_of_types_is_none_of_typescripts(tmp_path: Path) -> None:
    assert "TypeScript" not in for_models(await asked(tmp_path, {"a.js": "", "a.d.ts": "", "b.d.ts": ""}), Declared())


def test_many_packages_are_cut_and_declared_ones_come_first() -> None:
    found = Survey(python="3.12.1", installed=(*[(f"a{i:03}", "1") for i in range(90)], ("zlib-ng", "2")))
    words = for_models(found, Declared(text="requires zlib-ng>=1"))
    assert "these are installed: zlib-ng 2." in words
    assert "Installed besides: a000 1" in words
    assert "and 51 more, which the repository does not mention." in words
    briefly = for_models(found, Declared(text="requires zlib-ng>=1"), asks=True)
    assert "a009 1 and 80 more, which the repository does not mention." in briefly


async def test_the_packages_of_a_monorepo_are_imported_and_their_tests_find_them(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["packages/*"]\n',
        "packages/a/pyproject.toml": '[project]\nname = "a-pkg"\ndependencies = ["b-pkg", "no-such-thing>=2"]\n',
        "packages/a/src/a_pkg/__init__.py": "import b_pkg\n",
        "packages/b/setup.cfg": "[metadata]\nname = b-pkg\n[options]\npackage_dir =\n    = code\n",
        "packages/b/code/b_pkg/__init__.py": "",
        "tasks/__init__.py": "import no_such_module\n",
    }
    found = await asked(tmp_path, files)
    assert found.imports == (("a_pkg", ""), ("b_pkg", ""))
    assert found.missing == ("no-such-thing",)
    words = for_models(found, declared(sorted(files), files.get))
    assert "(so are `packages/a/src`, `packages/b/code`)" in words
    assert "Declared, but not installed: no-such-thing." in words
    sandbox = await open_sandbox(SandboxSettings(kind="process"), tmp_path, notice=lambda _: None)
    try:
        ran = await sandbox.run(SandboxJob(test=Test(path="t.py", text="import a_pkg, b_pkg\n"), timeout=60))
    finally:
        await sandbox.close()
    assert ran.passed, ran.output


def test_all_that_the_repository_depends_on_is_named() -> None:
    own = [(f"z{i:03}", "1") for i in range(60)]
    installed = (*((f"a{i:03}", "2") for i in range(60)), *own, ("My.Own", "0"), ("Dot_Name", "3"))
    wanted = Declared(required=(*(name for name, _ in own), "dot-name"), projects=("my-own",))
    words = for_models(Survey(python="3.12.1", installed=installed), wanted)
    assert all(f"{name} 1" in words for name, _ in own)
    assert "Dot_Name 3" in words
    assert "My.Own" not in words
    assert "Installed besides: a000 2" in words
    assert "and 50 more, which the repository does not mention." in words


def test_only_the_projects_own_packages_are_obstacles() -> None:
    broken = (("mine", ""), ("upkeep", "ModuleNotFoundError: No module named 'invoke'"))
    assert obstacles(Survey(python="3.12.1", imports=broken, named=("mine",))) == ()
    assert [o.name for o in obstacles(Survey(python="3.12.1", imports=broken))] == ["upkeep"]


@pytest.mark.parametrize(
    ("files", "required"),
    [
        ({"pyproject.toml": '[project]\ndependencies = ["a>=1", "B.c[e]~=2", "w; os_name == \'nt\'"]'}, ("a", "B.c")),
        ({"pyproject.toml": '[project]\nname = "x"\n[dependency-groups]\ntest = ["t"]\ndocs = ["d"]'}, ("t",)),
        ({"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.9"\na = "^1"'}, ("a",)),
        ({"setup.cfg": "[metadata]\nname = x\n[options]\ninstall_requires =\n    a\n    b>=2"}, ("a", "b")),
        ({"requirements.txt": "# all\na==1\n-r more.txt\nb\n"}, ("a", "b")),
        ({"setup.py": "setup()"}, ()),
        ({"a.py": ""}, ()),
    ],
)  # fmt: skip
def test_what_manifests_require(files: dict[str, str], required: tuple[str, ...]) -> None:
    assert declared(sorted(files), files.get).required == required
