"""Money in a run: what it costs is told, and a cap ends its sampling and counts what there is."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot.journal import MemoryJournal
from bot.llm.budget import Allowance
from bot.publish.messages import alternatives, pull_request, status
from bot.records import Checkout, NoWinner, Outcome, Report
from bot.settings import SpendingSettings
from bot.solver.pipeline import solve
from tests.bot.solver.test_pipeline import GOOD, ISSUE, checkout, workbench
from tests.fakes import FakeProgress, advance
from tests.scripted import ScriptedModel

__all__ = ["checkout"]

PRICES = SpendingSettings(prices=("*=1000/2000",))


async def spend(checkout: Checkout, model: ScriptedModel, allowance: Allowance, journal: MemoryJournal) -> Report:
    bench = replace(workbench(checkout, model), spending=PRICES, allowance=allowance)
    return await solve(ISSUE, bench, journal, FakeProgress(), advance)


async def test_what_a_run_costs_is_told_by_stage(checkout: Checkout) -> None:
    allowance = Allowance()
    report = await spend(checkout, ScriptedModel(GOOD), allowance, MemoryJournal())
    usage = report.usage
    assert usage.cost == pytest.approx((usage.prompt_tokens * 1000 + usage.completion_tokens * 2000) / 1e6)
    assert sum(used.cost for used in report.usage_by_stage.values()) == pytest.approx(usage.cost)
    assert allowance.spent == pytest.approx(usage.cost)
    body = pull_request.body(report)
    assert f"**Cost**: {usage.cost:.2f} USD (context " in body
    assert f" and cost {usage.cost:.2f} USD." in status.solved(report, "")


async def test_without_prices_nothing_is_said_of_money(checkout: Checkout) -> None:
    report = await solve(ISSUE, workbench(checkout, ScriptedModel(GOOD)), MemoryJournal(), FakeProgress(), advance)
    assert (report.usage.cost, report.currency) == (0, "")
    assert "Cost" not in pull_request.body(report)
    assert "cost" not in status.solved(report, "")


async def test_a_cap_that_is_reached_ends_the_sampling_and_counts_what_there_is(checkout: Checkout) -> None:
    whole = (await spend(checkout, ScriptedModel(GOOD), Allowance(), MemoryJournal())).usage
    model = ScriptedModel(GOOD)
    cap = Allowance(whole.cost * 0.75, "the cap of 1.00 USD a run")
    report = await spend(checkout, model, cap, MemoryJournal())
    assert len(model.calls) < whole.calls
    assert report.cut_short == "the cap of 1.00 USD a run is reached"
    assert any(note.startswith("the cap of 1.00 USD a run is reached: ") for note in report.notes)
    shown = status.solved(report, "") if report.verdict.outcome is Outcome.SOLVED else status.abstained(report)
    assert "It was cut short: the cap of 1.00 USD a run is reached; what there was is counted." in shown
    assert "[!WARNING]" in (alternatives.evidence(report))


async def test_a_cap_that_leaves_no_attempt_abstains_with_the_reason(checkout: Checkout) -> None:
    def reaches(key: str, messages: object) -> str:
        if key.startswith("trajectory/"):
            raise AssertionError("the cap is reached before")
        cap.limit = 0.0
        return "<relevant>\nAdds.\n</relevant>"

    cap = Allowance(1.0, "this repository's cap of 1.00 USD a day")
    report = await spend(checkout, ScriptedModel(reaches), cap, MemoryJournal())
    assert report.verdict.outcome is Outcome.ABSTAINED
    assert report.verdict.abstention is not None
    assert report.verdict.abstention.cause is NoWinner.NO_CANDIDATE
    assert "this repository's cap of 1.00 USD a day is reached" in status.abstained(report)


async def test_a_resumed_run_pays_nothing_twice_and_keeps_to_its_cap(checkout: Checkout, tmp_path: Path) -> None:
    journal = MemoryJournal()
    first = Allowance()
    whole = await spend(checkout, ScriptedModel(GOOD), first, journal)
    for key in [key for key in journal.entries if key == "report" or "/edit/" in key]:
        del journal.entries[key]
    model, again = ScriptedModel(GOOD), Allowance(first.spent, "the cap", first.spent)
    report = await spend(checkout, model, again, journal)
    assert model.calls == []  # all of it was spent by the attempt before
    assert again.spent == first.spent
    assert report.usage.cost < whole.usage.cost
