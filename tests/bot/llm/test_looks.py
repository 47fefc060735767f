import pytest

from bot.llm.looks import Looks, parse_looks
from bot.records import FinishReason, Reply

HERE = "python3 - <<'EOF'\nprint('<a>')\n\nprint(2)\nEOF"


def looks(text: str, *, cut: bool = False) -> Looks:
    return parse_looks(Reply(text=text, finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP))


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("<run>grep -n add mod.py</run>", ("grep -n add mod.py",)),
        ("Let me see.\n<run>ls</run>\n\n<run>sed -n 1,9p a.py</run>\n", ("ls", "sed -n 1,9p a.py")),
        ("<run>ls</run> <run>pwd</run><run>id</run>", ("ls", "pwd", "id")),
        ("<run>\ncd pkg\n  ls -l\n</run>", ("cd pkg\n  ls -l",)),
        ("<run>\n```bash\nls\n```\n</run>", ("ls",)),
        ("```\n<run>ls</run>\n```", ("ls",)),
        ("<run>\n$ ls\n$ pwd\n</run>", ("ls\npwd",)),
        ("<run>echo $ HOME</run>", ("echo $ HOME",)),
        ("<run>\nls\n\nThis lists them.", ("ls",)),
        ("<run>ls</run", ("ls",)),
        ('<run>python3 -c "\nimport a\n"</run>\n<run>ls</run>', ('python3 -c "\nimport a\n"', "ls")),
        ('<run>python3 -c "\na()"</run>\nThen:\n<run>\nls</run>\n', ('python3 -c "\na()"', "ls")),
        ("<run>ls</run>\n<run>ls</run>", ("ls",)),
        ("I look at <run>ls</run> first.", ("ls",)),
        ("I need no <run> tag at all.", ()),
        (f"<run>\n{HERE}\n</run>", (HERE,)),
        ('<run shell="bash">ls</run>', ("ls",)),
        ('<run command="ls -l"/>', ("ls -l",)),
        ("<run>ls\r\n</run>\r\n", ("ls",)),
        ("nothing", ()),
    ],
)
def test_commands(text: str, commands: tuple[str, ...]) -> None:
    assert looks(text) == Looks(commands=commands)


@pytest.mark.parametrize("text", ["<run></run>\n<run>\n\n</run>", "<run>\n```\n```\n</run>"])
def test_tags_without_a_command(text: str) -> None:
    assert looks(text) == Looks(empty=True)
    assert looks(f"{text}\n<run>ls</run>") == Looks(commands=("ls",))


def test_a_command_that_was_cut_off_is_not_run() -> None:
    assert looks("<run>ls</run>\n<run>rm -r bui", cut=True).commands == ("ls",)


@pytest.mark.parametrize(
    "work",
    [
        '<test path="t.py">\nassert 0\n</test>',
        '<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n</edit>',
        '<create path="n.py">\nx = 1\n</create>',
        '<delete path="n.py"/>',
        '<define path="a.py" name="f">\ndef f():\n    return 1\n</define>',
        '<file path="a.py">\nx = 1\n</file>',
        "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y\n",
        "a.py\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE",
    ],
)
def test_beside_work(work: str) -> None:
    found = looks(f"{work}\n<run>pytest -q</run>")
    assert found == Looks(commands=("pytest -q",), alone=False)
    assert looks(work).commands == ()


def test_what_is_within_a_test_is_text() -> None:
    text = '<test path="t.py">\nxml = """\n<run>rm -rf .</run>\n"""\n</test>'
    assert looks(text).commands == ()


@pytest.mark.parametrize("said", ["<done/>", "<approve/>", "<approved/>"])
def test_beside_the_end(said: str) -> None:
    assert looks(f"<run>ls</run>\n{said}") == Looks(commands=("ls",), fine=True)
