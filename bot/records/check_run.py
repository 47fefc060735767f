"""A check run on a commit, as GitHub shows it beside a pull request."""

from bot.records.record import Record


class CheckRun(Record):
    """What a finished check says. Texts are Markdown and whole; the forge cuts them."""

    title: str  # one line
    passes: bool  # else it is neutral: a check of ours never fails, since that would block a merge
    summary: str
    text: str = ""
    page: str = ""  # address of what it links to
