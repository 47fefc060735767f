"""Lists of runs: who sees which, filters, pages."""

import pytest

from bot.lifecycle import RunState
from bot.store import STATES, RunFilter, Store, parse
from tests.bot.queueing import queue_run, start


def _fill(store: Store) -> None:
    """Ten runs, the odd ones of another repository; the first five have failed."""
    store.quota_runs_per_hour = 100
    for number in range(1, 11):
        decision = start(number, "octo/odd" if number % 2 else "octo/even")
        issue = decision.issue.model_copy(update={"title": f"Issue {number}%"})
        accepted = store.accept(f"g{number}", "issues", "labeled", decision.model_copy(update={"issue": issue}))
        run = parse(accepted.job_id or "").id
        if number <= 5:
            claimed = store.claim_run(run, "w", 60)
            assert claimed is not None
            store.finish(
                run, claimed.attempt, RunState.FAILED, reason="why", report_json='{"usage": {"prompt_tokens": 7}}'
            )


def _ids(store: Store, **wanted: object) -> list[int]:
    return [run.id for run in store.listed(RunFilter.model_validate(wanted)).runs]


def test_filters(store: Store) -> None:
    _fill(store)
    assert _ids(store) == list(range(10, 0, -1))
    assert _ids(store, states=STATES["failed"]) == [5, 4, 3, 2, 1]
    assert _ids(store, states=STATES["active"], repository="octo/even") == [10, 8, 6]
    assert _ids(store, words="issue 1") == [10, 1]
    assert _ids(store, words="0%") == [10], "what stands for anything elsewhere is a character"
    assert _ids(store, words="#7") == _ids(store, words=" 7 ") == [7]
    assert _ids(store, words="ODD", states=STATES["failed"]) == [5, 3, 1]
    assert _ids(store, words="nothing") == []
    assert [run.tokens for run in store.listed(RunFilter(states=STATES["failed"])).runs] == [7] * 5


def test_nobody_is_shown_what_they_may_not_see(store: Store) -> None:
    _fill(store)
    even = frozenset({"octo/even", "octo/unknown"})
    assert _ids(store, repositories=even) == [10, 8, 6, 4, 2]
    assert _ids(store, repositories=even, repository="octo/odd") == []
    assert _ids(store, repositories=even, words="odd") == []
    assert _ids(store, repositories=frozenset()) == []
    assert store.repositories() == ("octo/even", "octo/odd")
    assert store.repositories(even) == ("octo/even",)


def test_pages_lead_on_and_back(store: Store) -> None:
    _fill(store)
    first = store.listed(RunFilter(), limit=4)
    assert ([run.id for run in first.runs], first.newer, first.older) == ([10, 9, 8, 7], False, True)
    second = store.listed(RunFilter(), limit=4, before=7)
    assert ([run.id for run in second.runs], second.newer, second.older) == ([6, 5, 4, 3], True, True)
    last = store.listed(RunFilter(), limit=4, before=3)
    assert ([run.id for run in last.runs], last.older) == ([2, 1], False)
    back = store.listed(RunFilter(), limit=4, after=6)
    assert ([run.id for run in back.runs], back.newer, back.older) == ([10, 9, 8, 7], False, True)


def test_the_mark_changes_with_what_a_list_shows(store: Store) -> None:
    marks = [store.mark()]
    run = queue_run(store)
    marks.append(store.mark())
    claimed = store.claim_run(run, "w", 60)
    assert claimed is not None
    store.renew(run, 1, 60, "reading")
    marks.append(store.mark())
    store.finish(run, 1, RunState.FAILED)
    marks.append(store.mark())
    assert len(set(marks)) == 4
    assert store.mark() == marks[-1]


@pytest.mark.parametrize("prefix", ["model/trajectory/1/", "model/trajectory/1"])
def test_keys_by_their_beginning(store: Store, prefix: str) -> None:
    run = queue_run(store)
    store.claim_run(run, "w", 60)
    for key in ("model/trajectory/1/test/1", "model/trajectory/12/test/1", "model_trajectory/1/x", "other"):
        store.put_step(run, 1, key, "{}")
    wanted = [key for key in store.step_keys(run) if key.startswith(prefix)]
    assert list(store.step_keys(run, prefix)) == wanted
