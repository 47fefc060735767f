"""Prices and caps, as the environment has them."""

from pathlib import Path

import pytest

from bot.errors import SettingsError
from bot.records import Price, Usage, money
from bot.settings import read_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_first_pattern_that_fits_is_the_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SPENDING_PRICES", "gpt-5*=1.25/0.125/10, Qwen/Qwen2.5:x=1/2 *=0/0")
    spending = read_settings().spending
    assert spending.price("gpt-5-mini") == Price(prompt=1.25, cached=0.125, completion=10)
    assert spending.price("qwen/Qwen2.5:x") == Price(prompt=1, completion=2)
    assert spending.price("capuchin") == Price(prompt=0, completion=0)


@pytest.mark.parametrize(
    "word", ["gpt", "=1/2", "gpt=1", "gpt=1/2/3/4", "gpt=a/b", "gpt=-1/2", "gpt=inf/1", "gpt=nan/1"]
)
def test_what_is_no_price(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SPENDING_PRICES", word)
    with pytest.raises(SettingsError, match=r"^TROOP_SPENDING_PRICES: .* is not of the form MODEL=PROMPT/COMPLETION"):
        read_settings()


@pytest.mark.parametrize("name", ["RUN", "DAY", "MONTH", "REPOSITORY_DAY", "REPOSITORY_MONTH"])
def test_a_cap_that_could_not_hold_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TROOP_SPENDING_{name}", "5")
    with pytest.raises(SettingsError, match=f"TROOP_SPENDING_{name} is set, and no price"):
        read_settings()
    monkeypatch.setenv("TROOP_SPENDING_PRICES", "gpt=1/2")
    spending = read_settings().spending
    assert [cap.variable for cap in spending.caps] == [f"TROOP_SPENDING_{name}"]
    assert spending.unpriced("gpt") == ""
    assert "no price of the model other" in spending.unpriced("gpt", "other")


def test_cached_tokens_cost_what_they_cost() -> None:
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=750_000, completion_tokens=500_000)
    assert Price(prompt=2, completion=10).of(usage) == 7
    assert Price(prompt=2, completion=10, cached=0.2).of(usage) == pytest.approx(0.5 + 0.15 + 5)


@pytest.mark.parametrize(
    ("amount", "words"), [(0, "0.00 EUR"), (0.00423, "0.0042 EUR"), (0.42, "0.42 EUR"), (1234.5, "1,234.50 EUR")]
)
def test_money(amount: float, words: str) -> None:
    assert money(amount, "EUR") == words
