"""The ending that an exit code stands for."""

import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from bot.records import Ending, Results

VOID = "void"  # how a signed line begins by which the runner withdraws its proof


REPORT_LIMIT = 1 << 25  # bytes of a job's report that are read: a line a test; the job may write junk into it, too
_WORD = 32  # hexadecimal digits, as `runner.py` has it
_GUESS = re.compile(rf"[0-9a-f]{{{_WORD}}} \d+(?: \d+)?")


class Words(NamedTuple):
    """What only the runner of one job knows: by `key` it signs what it tells, by `nonce` its end."""

    key: str
    nonce: str

    @property
    def given(self) -> str:
        """As the runner reads them."""
        return self.key + self.nonce


def words() -> Words:
    return Words(secrets.token_hex(_WORD // 2), secrets.token_hex(_WORD // 2))


def results_of(lines: Iterable[str], key: str, *, ended: bool) -> Results | None:
    """What the runner said of each test, the worst where it said several things; None where it said nothing."""
    worst = {"passed": 0, "skipped": 1, "failed": 2}
    found: dict[str, str] = {}
    marks: dict[str, None] = {}
    for line in lines:
        signed, _, rest = line.partition(" ")
        if signed != key:
            continue
        word, _, name = rest.partition(" ")[2].partition(" ")
        if word == "mark":
            marks[name] = None
        elif word in worst and worst[word] >= worst[found.get(name, "passed")]:
            found[name] = word
    if not found and not marks:
        return None
    of = {word: tuple(name for name, one in found.items() if one == word) for word in worst}
    return Results(**of, marks=tuple(marks), ended=ended)


def proof_of(lines: Iterable[str], secret: Words, *, whole: bool = True) -> str | None:
    """What the runner proved by its one line `NONCE CODE COUNT`; None where it proved nothing, or `secret` is empty.

    `cut` as well where it withdrew the proof (the candidate looked for the nonce), where there is a second one, or one
    with another nonce: who guesses may not guess again. And where not each of the COUNT lines that the runner numbered
    is there: one that is missing, since the descriptor was full, closed or led elsewhere, may be the one that withdrew
    it. `whole`: whether these are all lines.
    """
    if not secret.nonce:
        return None
    lines = list(lines)
    words = [line.split(" ", 2) for line in lines]
    proofs = [rest for word, *rest in words if word == secret.nonce]
    guesses = sum(_GUESS.fullmatch(line) is not None for line in lines if not line.startswith(f"{secret.nonce} "))
    signed = [rest for word, *rest in words if word == secret.key]
    if not proofs:
        return "cut" if guesses or any(rest[1:] and rest[1].startswith(VOID) for rest in signed) else None
    if len(proofs) > 1 or guesses or any(rest[1:] and rest[1].startswith(VOID) for rest in signed):
        return "cut"
    code, *count = proofs[0]
    numbers = sorted(" ".join(rest[:1]) for rest in signed)  # threads may pass each other
    complete = numbers == sorted(map(str, range(len(signed)))) and count == [str(len(signed))]
    return code if whole and complete else "cut"


def withdrawn(lines: Iterable[str], key: str) -> str:
    """Why the runner withdrew its proof, in its own words; "" where it did not, or said nothing."""
    for line in lines:
        signed, _, rest = line.partition(" ")
        word, _, why = rest.partition(" ")[2].partition(" ")
        if key and signed == key and word == VOID:
            return why
    return ""


def began(lines: Iterable[str], key: str) -> bool:
    """Whether the runner was started."""
    return f"{key} 0 begin" in lines


def judge_exit(status: int, proof: str | None, *, proves: bool, began: bool = False) -> tuple[Ending, int | None]:
    """The ending of a command that exited by itself.

    126 and 127 say that it could not be run, unless the runner `began`. With a runner (`proves`), a 0 needs both the
    proof that the script reached its end and a process that ended with 0. A proof of another code counts, whatever
    exit hooks made of the exit code.
    """
    if status in (126, 127) and proof is None and not began:
        return Ending.UNAVAILABLE, status
    if proves:
        if proof == "cut" or (proof is None and status == 0):
            return Ending.CUT_SHORT, 0
        if proof is not None and int(proof) != 0:
            return Ending.EXITED, int(proof)
        return Ending.EXITED, status
    return Ending.EXITED, status
