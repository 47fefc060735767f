"""Candidates whose tests ended well and prove nothing, since they do what a forged success does: why, what to do."""

from bot.publish.messages.words import counted, listed, verb
from bot.records import Ballot, Verdict

_NAMED = 5  # candidates that are named
_WORDS = {  # by what the runner's reason begins with
    "sys._getframe": "it looks at frames of the code that calls it (`sys._getframe`, `inspect.stack`)",
    "sys._current_frames": "it looks at the frames of other threads",
    "object.__getattr__": "it looks at frames, or at the code of the test's functions",
    "object.__setattr__": "it replaces the code of functions",
    "gc.": "it looks through all objects of the process (`gc`)",
    "ctypes.": "it reads memory by pointers (`ctypes`)",
    "sys.settrace": "it traces the test (`sys.settrace`)",
    "sys.setprofile": "it profiles the test (`sys.setprofile`, `cProfile`)",
    "sys.monitoring": "it monitors the test (`sys.monitoring`)",
    "__main__": "it looks at the data of the test script, or sets some",
    "open": "it opens the test script",
    "subprocess": "it hands the test script to a process",
    "os.": "it hands the test script to a process",
    "replaced": "it replaces what the test judges by",
    "a value that agrees": "a value of it equals whatever it is compared with, or nearly",
    "a text whose": "a text of it begins or ends with everything",
    "an exception of many kinds": "an exception of it is of many kinds at once",
    "a failure was swallowed": "it caught a failed assertion of the test",
    "a test failed": "a test failed within the script, which ended well all the same",
    "a function that was handed over": "it never called a function of the test that asserts something",
    "a test of the script": "it kept a test of the script from being run",
    "pytest ran something else": "pytest ran the tests elsewhere, as pytest-xdist does, or other tests",
}
_CUT = "it ended the process before the end of the test"


def reasons(ballot: Ballot, candidate: int) -> dict[str, int]:
    """Why tests that vote prove nothing on the candidate though they ended well, and how many of each."""
    found: dict[str, int] = {}
    for said in ballot.unproven(candidate):
        known = next((words for begin, words in _WORDS.items() if said.startswith(begin)), _CUT)
        found[known] = found.get(known, 0) + 1
    return found


def remark(ballot: Ballot, candidate: int) -> str:
    """For a candidate's row in a table; "" where there is nothing to say."""
    found = reasons(ballot, candidate)
    count = sum(found.values())
    return f"{counted(count, 'test')} {verb(count, 'proves', 'prove')} nothing: {listed(list(found))}" if found else ""


def unproven(verdict: Verdict) -> str:
    """Which candidates lost votes so, why, and what to do; "" where none did."""
    named = [(verdict.number(s.candidate), remark(verdict.ballot, s.candidate)) for s in verdict.standings]
    lost = [f"candidate {number}: {said}" for number, said in named if said]
    if not lost:
        return ""
    more = [f"and {counted(len(lost) - _NAMED, 'more candidate')}"] if len(lost) > _NAMED else []
    return (
        f"Tests that end well and prove nothing are no votes ({'; '.join([*lost[:_NAMED], *more])}). A forged success "
        "does the same. Where it is what the issue asks for, read the patch, and take it with `/troop use N`."
    )
