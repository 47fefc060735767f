"""What databases do not take as text, wherever visitors and deliveries may put it: attack 42."""

import pytest

from bot.records import Issue
from bot.store import RunFilter, Store
from tests.bot.queueing import queue_run, start

ODD = ["\0", "a\0b/c", "x" * 100_000, "'; DROP TABLE run; --", "%_\\%", "\u202e", ""]


@pytest.mark.parametrize("text", ODD)
def test_attack_42_odd_text_is_looked_for_in_vain(store: Store, text: str):
    queue_run(store)
    for wanted in (RunFilter(words=text), RunFilter(repository=text)):
        assert store.listed(wanted).runs == () or text == ""


@pytest.mark.parametrize("text", ODD)
def test_attack_42_odd_text_is_stored(store: Store, text: str):
    first = queue_run(store)
    asked = start(2).model_copy(update={"issue": Issue(title=text, body=text, number=2)})
    assert store.accept("g", "issues", "labeled", asked).job_id is not None
    claimed = store.claim_run(first, "w", 60)
    assert claimed is not None
    store.renew(first, claimed.attempt, 60, text)
    store.pause(text, text)
    assert store.request_stop(first, text)
