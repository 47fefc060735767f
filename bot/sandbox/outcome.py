"""What an exit code is worth."""

from bot.records import Ending


def judge_exit(status: int, proof: str | None, *, proves: bool) -> tuple[Ending, int | None]:
    """The ending of a command that exited by itself.

    With a runner (`proves`), a 0 needs both: its proof that the script reached its end, and a process that then ended
    well. A proof of another code stands, whatever exit hooks made of it.
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
