import os

import pytest

from bot.errors import SandboxError
from bot.records import Ending
from bot.sandbox.outcome import Words, judge_exit, proof_of, withdrawn
from bot.sandbox.process import read_report


@pytest.mark.parametrize(
    ("status", "proof", "proves", "ending", "code"),
    [
        (0, None, False, Ending.EXITED, 0),
        (1, None, False, Ending.EXITED, 1),
        (127, None, False, Ending.UNAVAILABLE, 127),
        (126, None, False, Ending.UNAVAILABLE, 126),
        (0, "0", True, Ending.EXITED, 0),
        (0, None, True, Ending.CUT_SHORT, 0),
        (0, "cut", True, Ending.CUT_SHORT, 0),
        (0, "1", True, Ending.EXITED, 1),  # an exit hook hid the failure
        (3, "0", True, Ending.EXITED, 3),  # ... or made one
        (5, None, True, Ending.EXITED, 5),
        (127, None, True, Ending.UNAVAILABLE, 127),
        (127, "127", True, Ending.EXITED, 127),
    ],
)
def test_what_an_exit_code_is_worth(status: int, proof: str | None, proves: bool, ending: Ending, code: int) -> None:
    assert judge_exit(status, proof, proves=proves) == (ending, code)


SECRET, NONE = Words("k3y", "n0nce"), Words("", "")


def test_only_lines_with_the_words_count() -> None:
    def read(report: str, out_of_memory: bool = False, secret: Words = SECRET) -> tuple[Ending, int | None]:
        lines = report.splitlines()
        return read_report(lines, "secret", secret, proof_of(lines, secret), out_of_memory)

    status = os.WEXITSTATUS(0)
    forged = f"0 0\nstatus 0\nsecret2 status 0\n n0nce 0\nsecret status {1 << 8}\nsecret status {status}\n"
    assert read(forged) == (Ending.EXITED, 1)
    proof = "\nk3y 0 end\n\nn0nce 0 1\n"
    assert read(f"{proof}secret status 0\n") == (Ending.EXITED, 0)
    assert read(f"{proof}secret status 0\n", True) == (Ending.OUT_OF_MEMORY, None)
    assert read(proof) == (Ending.KILLED, None)
    assert read("secret status 11\n") == (Ending.KILLED, 139)
    with pytest.raises(SandboxError, match="no room"):
        read("secret broken no room\n", secret=NONE)


@pytest.mark.parametrize(
    ("lines", "proof"),
    [
        ([], None),
        (["noise", "n0nce 0 0"], "0"),
        (["n0nce 0"], "cut"),  # how many lines there were is not said
        (["n0nce cut 0"], "cut"),
        (["n0nce 0 0", "n0nce 0 0"], "cut"),  # somebody else knows the nonce
        (["n0nce 0 0", "n0nce 1 0"], "cut"),
        (["k3y 0 void gc.get_objects", "n0nce 0 1"], "cut"),
        (["k3y 0 void gc.get_objects"], "cut"),
        (["k3y 0 begin", "k3y 1 end", "n0nce 0 2"], "0"),
        (["k3y 0 begin", "k3y 2 end", "n0nce 0 3"], "cut"),  # one is missing, or was held back
        (["k3y 0 begin", "k3y 0 begin", "n0nce 0 2"], "cut"),
        (["k3y 0 begin", "n0nce 0 2"], "cut"),
        (["k3y", "n0nce 0 0"], "cut"),
        (["void gc.get_objects", "n0nce 0 0"], "0"),  # anybody's words
        ([" n0nce 0 0", "n0nce2 0 0"], None),
        (["0123456789abcdef0123456789abcdef 0", "n0nce 0 0"], "cut"),  # somebody guesses
        (["0123456789abcdef0123456789abcdef 0 1", "n0nce 0 0"], "cut"),
        (["0123456789abcdef0123456789abcdef 0 begin", "n0nce 0 0"], "0"),
    ],
)
def test_a_proof_is_one_line_that_was_not_withdrawn(lines: list[str], proof: str | None) -> None:
    assert proof_of(lines, SECRET) == proof
    assert proof_of(lines, NONE) is None


def test_why_a_proof_was_withdrawn_is_the_runners_word() -> None:
    lines = ["k3y 0 begin", "void forged", "other 0 void forged", "k3y 1 void gc.get_objects", "k3y 2 void open"]
    assert withdrawn(lines, "k3y") == "gc.get_objects"
    assert withdrawn(lines[:3], "k3y") == ""
    assert withdrawn(["0 void x", " 0 void x"], "") == ""
