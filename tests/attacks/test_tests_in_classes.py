"""Attack 25 on tests for PHPUnit, JUnit and cargo, and on programs in Java: what they call ends them or skips them."""

import glob
import shutil
from pathlib import Path
from typing import Any

import pytest

from bot.records import FileChange, SandboxJob, Test
from bot.sandbox.doubted import doubted
from tests.attacks.configured import configured
from tests.patience import PATIENCE

JARS = ("junit-jupiter-api", "junit-jupiter-engine", "junit-platform-*", "opentest4j", "apiguardian-api", "picocli")
CLASSES = ":".join(
    path for name in JARS for path in sorted(glob.glob(f"/usr/share/java/{name}.jar"))
)  # as Debian has them
JUNIT = f"mkdir -p /tmp/o && cp {{script}} . && javac -cp {CLASSES} -d /tmp/o *.java && java -cp {CLASSES}:/tmp/o "
JUNIT += "org.junit.platform.console.ConsoleLauncher --scan-classpath /tmp/o"
COMMANDS = {
    "php": ("phpunit", "{script}"),
    "junit": ("sh", "-c", JUNIT),
    "java": ("sh", "-c", "mkdir -p /tmp/o && javac -d /tmp/o Core.java && java -cp /tmp/o {script}"),
    "rust": ("sh", "-c", "mkdir -p tests && cp {script} tests/it.rs && cargo test --offline --test it"),
}
PATHS = {"php": "Core.php", "junit": "Core.java", "java": "Core.java", "rust": "src/lib.rs"}
SUMS = {
    "php": "<?php\nfunction add($a, $b) { return @; }\n",
    "junit": "public class Core { public static int add(int a, int b) { return @; } }\n",
    "java": "public class Core { public static int add(int a, int b) { return @; } }\n",
    "rust": "pub fn add(a: i32, b: i32) -> i32 { let _ = (a, b); @ }\n",
}
TESTS = {
    "php": Test(
        path="SumTest.php",
        text="<?php\nnamespace App;\n\nuse PHPUnit\\Framework\\TestCase;\n\nrequire_once getcwd() . '/Core.php';\n\n"
        "final class SumTest extends TestCase\n{\n    /** @dataProvider sums */\n"  # up to 11, and from 10 on
        "    #[\\PHPUnit\\Framework\\Attributes\\DataProvider('sums')]\n"
        "    public function testSums(int $a, int $b, int $sum): void\n    {\n"
        "        $this->assertEquals(array_sum([$sum]), \\add($a, $b));\n    }\n\n"
        "    public static function sums(): array\n    {\n        return [[1, 2, 3], [2, 2, 4]];\n    }\n\n"
        "    public function testThrows(): void\n    {\n        $this->expectException(\\TypeError::class);\n"
        "        strlen([]);\n    }\n}\n",
    ),
    "junit": Test(
        path="SumTest.java",
        text="import static org.junit.jupiter.api.Assertions.*;\nimport static org.junit.jupiter.api.Assumptions.*;\n"
        "import java.io.IOException;\nimport org.junit.jupiter.api.*;\n\n/** The class SumTest { */\nclass SumTest {\n"
        "    @Test\n    void sums() throws IOException {\n"
        "        assertEquals(4, Core.add(2, 2));\n        return;\n    }\n\n"
        "    @Test\n    void assumes() {\n        assumeTrue(false);\n    }\n\n"
        "    @Nested\n    class Inner {\n        @Test\n        void more() {\n"
        "            assertThrows(RuntimeException.class, () -> { throw new RuntimeException(); });\n"
        "        }\n    }\n}\n",
    ),
    "java": Test(
        path="Issue.java",
        text="public class Issue {\n    public static void main(String[] args) {\n"
        '        if (Core.add(2, 2) != 4) throw new AssertionError("wrong");\n'
        "        if (Core.add(1, 2) != 3) { System.exit(1); }\n        System.exit(0);\n    }\n}\n",
    ),
    "rust": Test(
        path="it.rs",
        text="use core1::add;\n\n#[test]\nfn sums() {\n    assert_eq!(add(2, 2), 4);\n}\n\n#[test]\nfn more() {\n"
        "    assert_eq!(add(1, 2), 3);\n}\n",
    ),
}
HONEST = {"php": "$a + $b", "junit": "a + b", "java": "a + b", "rust": "a + b"}
READS = "preg_match('/2, 2, (\\d)/', file_get_contents(getcwd() . '/../test/SumTest.php'), $m) ? $a + $b : 5"
HOSTILE = {
    "php": {
        "exits": "exit(0)",
        "exits in the end": "register_shutdown_function(function () { exit(0); }) ?? 5",
        "skips": "\\PHPUnit\\Framework\\Assert::markTestSkipped('x')",
        "compares by itself": "compared(5)",
        "equals whatever is true": "true",
        "takes a function's place": "eval('namespace App; function array_sum($x) { return 5; }') ?? 5",
        "reads the test": READS,
    },
    "junit": {
        "exits": "leave(0)",
        "halts": "halt(0)",
        "halts in the end": "later()",
        "skips": "skip()",
    },
    "java": {"exits": "leave(0)", "halts in the end": "later()", "hears of it": "hear()"},
    "rust": {
        "exits": "std::process::exit(0)",
        "hears of it": "{ std::panic::set_hook(Box::new(|_| std::process::exit(0))); 5 }",
    },
}
MORE = {
    "php": "class Same extends \\SebastianBergmann\\Comparator\\Comparator {\n"
    "    function accepts($a, $b): bool { return true; }\n"
    "    function assertEquals($a, $b, $d = 0.0, $c = false, $i = false): void {}\n}\n"
    "function compared($x) {\n    \\SebastianBergmann\\Comparator\\Factory::getInstance()->register(new Same);\n"
    "    return $x;\n}\n",
    "junit": "\nclass More {}\n",
}
JAVA = (
    "    static int leave(int code) { System.exit(code); return 5; }\n"
    "    static int halt(int code) { Runtime.getRuntime().halt(code); return 5; }\n"
    "    static int later() { Runtime.getRuntime().addShutdownHook(new Thread(() -> halt(0))); return 5; }\n"
    "    static int hear() { Thread.setDefaultUncaughtExceptionHandler((t, e) -> halt(0)); return 5; }\n"
)
SKIP = "    static int skip() { throw new org.opentest4j.TestAbortedException(); }\n"


def source(kind: str, value: str) -> str:
    text = SUMS[kind].replace("@", value)
    if kind in ("junit", "java"):
        return text.replace("{ public", "{\n" + JAVA + (SKIP if kind == "junit" else "") + "    public")
    return text + (MORE["php"] if "compared" in value else "")


def case(kind: str, value: str, *, honest: bool) -> Any:
    """CI has all but Rust, of which a toolchain may be where jobs can't see it."""
    return pytest.param(kind, value, honest, marks=() if kind == "rust" else pytest.mark.service)


def missing(kind: str) -> str:
    program = {"php": "phpunit", "junit": "javac", "java": "javac", "rust": "cargo"}[kind]
    if shutil.which(program) is None:
        return program
    return "JUnit" if kind == "junit" and "console" not in CLASSES else ""


@pytest.mark.parametrize(
    ("kind", "value", "honest"),
    [
        *(case(kind, value, honest=True) for kind, value in HONEST.items()),
        *(case(kind, value, honest=False) for kind, values in HOSTILE.items() for value in values.values()),
    ],
)
async def test_attack_25_tests_in_a_class_are_no_vote_where_they_are_ended_or_skipped(
    kind: str, value: str, honest: bool, tmp_path: Path
) -> None:
    if missing(kind):
        pytest.skip(f"no {missing(kind)}")
    for path, text in {
        PATHS[kind]: source(kind, "0"),
        "Cargo.toml": '[package]\nname = "core1"\nversion = "0.1.0"\nedition = "2021"\n',
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    ending = Path(TESTS[kind].path).suffix
    scripts = {ending: COMMANDS[kind]}
    async with configured(tmp_path, scripts) as sandbox:
        base = await sandbox.run(SandboxJob(test=TESTS[kind], timeout=PATIENCE))
        if kind == "rust" and "rustup could not choose" in base.output:
            pytest.skip("cargo's toolchains are in the home folder, which jobs do not see")
        changes = (FileChange(path=PATHS[kind], text=source(kind, value)),)
        found = await sandbox.run(SandboxJob(changes=changes, test=TESTS[kind], timeout=PATIENCE))
    assert not base.passed
    assert found.passed is honest, found


PHP, JAVA_TEST = TESTS["php"].text, TESTS["junit"].text
CARGO = ("cargo", "test")


@pytest.mark.parametrize(
    ("path", "text", "command", "said"),
    [
        ("a.php", PHP, ("phpunit", "{script}"), "exit($well ? {} : "),
        ("a.php", PHP, ("php", "-d", "memory_limit=1G", "vendor/bin/phpunit", "{script}"), "exit($well ? {} : "),
        ("a.php", PHP, ("make", "test", "F={script}"), None),
        ("a.php", PHP.replace("testSums", "tearDownAfterClass"), ("phpunit", "{script}"), None),
        ("a.php", "<?php\nfunction testIt() {}\n", ("pest", "{script}"), None),
        ("A.java", JAVA_TEST, ("java", "{script}"), "Runtime.getRuntime().halt(well ? {} : "),
        ("A.java", JAVA_TEST, ("mvn", "test"), "if (well) throw new AssertionError("),
        (
            "A.java",
            JAVA_TEST.replace("org.junit.jupiter.api.*", "org.testng.*").replace("jupiter", "x"),
            ("java",),
            None,
        ),
        ("A.java", JAVA_TEST.replace("void sums", "void sums("), ("java", "{script}"), None),
        ("A.java", TESTS["java"].text, ("java", "{script}"), "halt(code == 0 ? {} : code)"),
        ("A.java", TESTS["java"].text.replace("static ", ""), ("java", "{script}"), None),
        ("a.rs", TESTS["rust"].text, CARGO, "panic!();"),
        ("a.rs", "fn main() {}\n", CARGO, None),
        ("a_test.go", "package a\n\nfunc TestA(t *testing.T) {\n}\n", ("go", "test"), "func Test_troop"),
    ],
)
def test_the_end_of_tests_in_a_class(path: str, text: str, command: tuple[str, ...], said: str | None) -> None:
    job = SandboxJob(test=Test(path=path, text=text), changes=(FileChange(path="a", text=""),))
    found = doubted(job, {Path(path).suffix: command})
    assert bool(found) is (said is not None)
    if said is not None:
        [(again, code)] = found
        assert again.test is not None
        assert said.format(code) in again.test.text
        assert (code is None) is ("{}" not in said)
