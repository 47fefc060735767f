"""The onboarding pull request in words: the `.troop.toml` that is proposed, and what was found and tried."""

import json
import shlex

from bot.publish.messages.build import setup_lines
from bot.publish.messages.words import counted, cut, folded, in_brief, one_line, verb
from bot.records import NotCompared, OwnTestsReport, Record
from bot.repo_config import FILE_NAME
from bot.sanitize import fence, inline

TITLE = "Configure Troop"
COMMIT_MESSAGE = (
    f"Configure Troop\n\nA {FILE_NAME} with what Troop found in this repository. Every line may be left out.\n"
)
_LINES = 20  # of a recipe that are shown


class Proposal(Record):
    """What was found in a repository, and what came of trying it."""

    found: str = ""  # which files say how it is built
    image: str = ""  # that its tests run in
    commands: tuple[str, ...] = ()  # of the build
    setup: str = ""  # a line that does about the same
    built: bool = False  # whether an image was built
    failure: str = ""  # why it could not be
    log: str = ""  # the end of what the build printed, where it failed
    mend: str = ""  # a `setup` to try, where it failed
    tests: OwnTestsReport = OwnTestsReport()  # of the base commit
    notes: tuple[str, ...] = ()


def config_text(proposal: Proposal) -> str:
    """The file. What did not work, and what would only repeat the detection, is a comment."""
    command = shlex.join(proposal.tests.command or proposal.tests.tried)
    lines = ["# Troop's settings for this repository, read from the default branch alone. Every line may be left out."]
    lines += [
        "",
        "[test]",
        "# The repository's own tests: they run on the best candidates, and none that breaks one wins.",
    ]
    if proposal.tests.command and proposal.tests.compared:
        lines.append(f"command = {_toml(command)}")
    elif command:
        lines += [f"# This did not work: {_comment(_why_not(proposal.tests))}", f"# command = {_toml(command)}"]
    else:
        lines += ["# None was found.", '# command = "make test"']
    lines += ["", "[sandbox]", "# What is installed before tests run; left out, the repository's manifests decide."]
    setup = proposal.mend or proposal.setup or "pip install -e ."
    lines.append(f"# {setup_lines(setup).splitlines()[1]}")
    lines += ["", "[context]", "# Files that no model needs to read.", '# exclude = ["docs/**"]']
    lines += [
        "",
        "[publish]",
        "# A pull request brings a regression test along, as a file of its own.",
        "# test = true",
        "# Checks that fail on it start one revision of it.",
        "# fix_ci = true",
    ]
    return "\n".join(lines) + "\n"


def body(proposal: Proposal, label: str = "troop") -> str:
    """The pull request's text. Logs and paths are the repository's words."""
    parts = [
        f"This adds a `{FILE_NAME}` with what Troop found here. It is optional: without it Troop decides the same by "
        f"itself. Change what is wrong, merge it, or close it. Then label an issue {inline(label)}.",
        f"### What was found\n\n{_found(proposal)}",
        f"### What the image build said\n\n{_built(proposal)}",
        f"### The repository's own tests\n\n{_tests(proposal.tests)}",
    ]
    if proposal.notes:
        parts.append("### To know\n\n" + "\n".join(f"- {one_line(cut(note, 500))}" for note in proposal.notes))
    return "\n\n".join(parts)


def opened(url: str, proposal: Proposal) -> str:
    """The answer to the command."""
    how = f"The image could not be built: {in_brief(proposal.failure, 300)}." if proposal.failure else ""
    return f"The pull request with a `{FILE_NAME}`: {url}. {how}".rstrip()


def there_already() -> str:
    return f"There is a `{FILE_NAME}` on the default branch already; change it there."


def not_opened(why: str) -> str:
    return f"No pull request was opened: {in_brief(why)}."


def _found(proposal: Proposal) -> str:
    image = f" on the image {inline(proposal.image)}" if proposal.image else ""
    if not proposal.commands:
        return f"Nothing says what is to be installed: tests run{image} as it is."
    shown = "\n".join(proposal.commands[:_LINES])
    return f"{one_line(cut(proposal.found, 500))}{image}.\n\n{folded('What is run', fence(shown, 'sh'))}"


def _built(proposal: Proposal) -> str:
    if proposal.failure:
        log = f"\n\nThe end of the log:\n\n{fence(proposal.log, 'text')}" if proposal.log else ""
        mend = f"\n\nTo try, in `{FILE_NAME}`:\n\n{fence(setup_lines(proposal.mend), 'toml')}" if proposal.mend else ""
        return f"It failed: {in_brief(proposal.failure)}.{log}{mend}"
    return "It was built." if proposal.built else "None is built here."


def _tests(tests: OwnTestsReport) -> str:
    if not (tests.command or tests.tried):
        return f"{how_tests_went(tests)} Candidates are then judged by the tests that models write alone."
    command = inline(shlex.join(tests.command or tests.tried))
    said = f"\n\n{fence(cut(tests.detail, 2_000), 'text')}" if tests.detail else ""
    return f"{command} {how_tests_went(tests)}{said}"


def how_tests_went(tests: OwnTestsReport) -> str:
    """What came of the repository's own tests, as plain text behind the command; a sentence where none was found."""
    if not (tests.command or tests.tried):
        return "No command was found that runs them."
    if not tests.command or tests.base is None or not tests.compared:
        return f"did not work here: {_why_not(tests)}."
    failing = len(tests.base.failures or ())
    ran = tests.base.count or len(tests.base.passed) + failing
    many = f"{counted(ran, 'test')}, " if ran else ""
    on = f"on the default branch ({many}{tests.base.execution.seconds:.0f} s)"
    if tests.base.execution.passed:
        return f"passes {on}."
    how = "is stopped at its time limit" if tests.base.stopped else "runs"
    if not failing:
        return f"{how} {on}; no test fails there."
    fail = f"{counted(failing, 'test')} {verb(failing, 'fails', 'fail')} there"
    return f"{how} {on}; {fail}, which no candidate has to mend."


_WHY = {
    NotCompared.NO_PYTEST: "pytest is not installed",
    NotCompared.NOT_RUN: "the command can't be run, or ran no test",
    NotCompared.SANDBOX_FAILED: "the sandbox failed",
    NotCompared.UNNAMED_FAILURES: "tests fail, and the runner does not name which",
    NotCompared.NO_TESTS: "it ran no test",
}


def _why_not(tests: OwnTestsReport) -> str:
    return _WHY.get(tests.not_compared, "it was not run") if tests.not_compared else tests.note or "it was not run"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    return " ".join(text.split())
