"""Attacks 25 and 33 on tests that stand in the file that they test."""

import pytest

from bot.patch.protected_files import touched_judges
from bot.records import FileChange

ADD = "pub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n"
TESTS = """
#[cfg(test)]
mod tests {
    use super::*;
    const TWO: i32 = 2;

    #[test]
    fn sum() {
        assert_eq!(add(TWO, 2), 4);
    }
}
"""
FIXED = "pub fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\n"


def touched(before: str, after: str, path: str = "src/lib.rs") -> str:
    return touched_judges((FileChange(path=path, text=after),), lambda p: p == "src/lib.rs", lambda p: before)


@pytest.mark.parametrize(
    "after",
    [
        FIXED + TESTS.replace("assert_eq!(add(TWO, 2), 4);", ""),
        FIXED + TESTS.replace("), 4)", "), 5)"),
        FIXED + TESTS.replace("#[test]", "#[test]\n    #[ignore]"),
        FIXED + TESTS.replace("    use super::*;\n", "    use super::*;\n    fn add(_: i32, _: i32) -> i32 { 4 }\n"),
        FIXED + TESTS.replace("    use super::*;\n", "    use super::*;\n    use super::fake::add;\n"),
        FIXED + TESTS.replace("const TWO: i32 = 2", "const TWO: i32 = 3"),
        FIXED + TESTS.replace("#[cfg(test)]", "#[cfg(all(test, never))]").replace("sum", "other"),
        FIXED,
        "macro_rules! assert_eq {\n    ($($all:tt)*) => {};\n}\n" + FIXED + TESTS,
        "use crate::nothing as assert_eq;\n" + FIXED + TESTS,
    ],
)
def test_attack_25_tests_in_the_changed_file_stay_as_they_are(after: str) -> None:
    assert touched(ADD + TESTS, after) == "changes the tests in src/lib.rs"


def test_attack_25_a_new_file_defines_no_macro_of_tests() -> None:
    assert touched("", "macro_rules! assert_eq { ($($all:tt)*) => {} }\n", "src/macros.rs")


@pytest.mark.parametrize(
    "after",
    [
        FIXED + TESTS,
        "// why\nuse std::fmt;\n" + FIXED + TESTS.replace("mod tests {", "mod tests { // of add"),
        FIXED + TESTS.replace("    #[test]\n", "    #[test]\n    fn more() { assert_eq!(1, 1); }\n\n    #[test]\n"),
        FIXED + TESTS.replace("        assert_eq", "            assert_eq"),
        "macro_rules! check { ($a:expr) => { assert!($a) } }\n" + FIXED + TESTS,
    ],
)  # fmt: skip
def test_a_fix_may_come_with_its_tests(after: str) -> None:
    assert touched(ADD + TESTS, after) == ""
