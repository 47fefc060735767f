"""How anybody counts again, in the words of the pull request."""

from bot.publish.messages.words import folded, in_brief
from bot.sanitize import fence


def how(url: str, reference: str, name: str, commit: str) -> str:
    """`url`, `reference`: where git fetches the bundle, whose file is `name`. `commit`: that the candidates change."""
    command = f"git fetch {url} {commit} && git fetch {url} {reference} && git show FETCH_HEAD:{name} | troop verify -"
    said = (
        "Candidates, tests, matrix and what they ran in are kept in this repository, on a reference that is no branch. "
        "With Troop installed, in a clone, this runs every test on every candidate again and says what differs:"
    )
    return folded("Count it again", f"{said}\n\n{fence(command, 'sh')}")


def not_kept(why: str, *, refused: bool = False) -> str:
    """`refused`: whether the repository does not take the reference."""
    said = in_brief(why, 300)
    if not refused:
        return f"There is no bundle to count again with: {said}."
    return (
        "There is no bundle to count again with: this repository does not take the reference that would hold it "
        "(`refs/troop/…`, one JSON file, no branch). A push ruleset that restricts files by ending, size or path "
        "refuses it, or a hook of the server does; with Troop's App in the ruleset's bypass list it is taken. "
        f"GitHub said: {said}."
    )
