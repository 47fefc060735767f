"""The ending that an exit code stands for."""

from collections.abc import Iterable

from bot.records import Ending

VOID = "void"  # how a line of the runner begins by which it withdraws its proof


def proof_of(lines: Iterable[str], nonce: str) -> str | None:
    """What the runner proved by its one line `NONCE CODE`; None where it proved nothing, or `nonce` is empty.

    `cut` as well where it withdrew the proof (the candidate looked for the nonce), or where there is a second one.
    """
    if not nonce:
        return None
    words = [line.partition(" ") for line in lines]
    proofs = [rest for word, _, rest in words if word == nonce]
    if len(proofs) > 1 or any(word == VOID for word, _, _ in words):
        return "cut"
    return proofs[0] if proofs else None


def judge_exit(status: int, proof: str | None, *, proves: bool) -> tuple[Ending, int | None]:
    """The ending of a command that exited by itself.

    With a runner (`proves`), a 0 needs both the proof that the script reached its end and a process that ended with 0.
    A proof of another code counts, whatever exit hooks made of the exit code.
    """
    if status in (126, 127) and proof is None:
        return Ending.UNAVAILABLE, status
    if proves:
        if proof == "cut" or (proof is None and status == 0):
            return Ending.CUT_SHORT, 0
        if proof is not None and int(proof) != 0:
            return Ending.EXITED, int(proof)
        return Ending.EXITED, status
    return Ending.EXITED, status
