"""`troop eval feedback`: what people made of winners, and what that changed."""

from collections.abc import Iterator

from bot.cli.operations import opened
from bot.evaluation.feedback import learned, words

NEWEST = 20  # judgements of one repository that are listed


def show(repository: str) -> Iterator[str]:
    """Lines about one repository, with its newest judgements, or about all."""
    with opened() as (settings, store):
        names = (repository,) if repository else store.judged_repositories()
        found = {name: store.judgements(name) for name in names}
    solver = settings.solver
    if not settings.feedback:
        yield "TROOP_FEEDBACK is off: nothing more is kept, and nothing of this is used"
    if not any(found.values()):
        yield f"nothing is known of {repository or 'any repository'} yet"
        return
    for name, judgements in found.items():
        yield words(learned(name, judgements, solver.confidence_shift, solver.wrong_at_most))
    if repository:
        outcome = {True: "right", False: "wrong", None: "open"}
        for one in found[repository][:NEWEST]:
            yield (
                f"  {one.at:%Y-%m-%d}  run {one.run_id}, issue #{one.issue_number}: {one.act.value} by {one.by}, with "
                f"candidate {one.candidate}; the winner was {outcome[one.right]}"
            )


def forget_all(repository: str) -> Iterator[str]:
    """Delete what is kept of the repository."""
    with opened() as (_, store):
        count = store.forget_judgements(repository)
    yield f"{count:,} judgement{'' if count == 1 else 's'} of {repository} deleted"
