"""What is detected of C and C++."""

from bot.recipe import detect
from bot.repo_config import RepoConfig
from tests.bot.recipe.test_detect import commands, of

CMAKE = "project(mill C)\noption(MILL_BUILD_TESTS OFF)\noption(TEST_COVERAGE OFF)\nadd_subdirectory(test)\n"


def test_cmake_builds_the_tests_that_it_is_asked_for() -> None:
    found = of({"CMakeLists.txt": CMAKE, "test/CMakeLists.txt": "add_test(NAME low COMMAND low)\n", "mill.c": ""})
    (layer,) = found.layers
    assert layer.commands[0] == "cmake -S . -B troop-build -DMILL_BUILD_TESTS=ON"
    assert layer.optional, "what can't be compiled here ends no run"
    assert layer.whole_tree
    assert layer.programs == (), "what is missing is installed"
    ((*shell, line),) = found.tests
    assert shell == ["sh", "-c"]
    assert line.endswith("cmake --build troop-build && cd troop-build && ctest --output-on-failure")


def test_cmake_without_tests_is_not_built() -> None:
    assert of({"CMakeLists.txt": "project(mill C)\n# enable_testing()\n", "mill.c": ""}).layers == ()


def test_autotools() -> None:
    found = of({"configure.ac": "", "Makefile.am": "", "mill.c": ""})
    assert commands(found).startswith("autoreconf -fi\n./configure\nmake -j")
    assert found.tests == (("make", "check"),)
    assert not commands(of({"configure": "", "Makefile.in": "", "mill.c": ""})).startswith("autoreconf")
    assert of({"configure": "", "mill.c": ""}).layers == ()


def test_what_another_languages_package_compiles_is_its_matter() -> None:
    files = {"CMakeLists.txt": "enable_testing()", "setup.py": "setup()", "a.c": "", "b.c": ""}
    assert detect(tuple(files), files.get, RepoConfig()).found == "Python (setup.py)"
