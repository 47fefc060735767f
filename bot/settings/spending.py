"""What models cost, and what may be spent: prices, caps, the pause switch."""

import fnmatch
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import NoDecode

from bot.records import Price, Record, money
from bot.settings.lists import LISTED

_FORM = "MODEL=PROMPT/COMPLETION or MODEL=PROMPT/CACHED/COMPLETION, of a million tokens: gpt-5=1.25/0.125/10"
_SMALLEST = 3  # numbers of the longer form


def _priced(word: str) -> str:
    read_price(word)
    return word


def read_price(word: str) -> tuple[str, Price]:
    """A pattern of models' names and their price. Raises `ValueError`."""
    pattern, _, numbers = word.rpartition("=")
    try:
        values = [float(number) for number in numbers.split("/")]
    except ValueError:
        values = []
    if not pattern or len(values) not in (2, _SMALLEST) or not all(0 <= value < float("inf") for value in values):
        raise ValueError(f"{word!r} is not of the form {_FORM}")
    cached = values[1] if len(values) == _SMALLEST else None
    return pattern, Price(prompt=values[0], completion=values[-1], cached=cached)


Prices = Annotated[tuple[Annotated[str, AfterValidator(_priced)], ...], NoDecode, LISTED]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Window = Literal["run", "day", "month"]


class Cap(Record):
    """An amount that may be spent in one run, or in a day or a month by all or by each repository."""

    amount: float
    window: Window
    of_repository: bool = False
    variable: str = ""  # that sets it
    currency: str = ""

    @property
    def words(self) -> str:
        """`this repository's cap of 5.00 USD a day`."""
        whose = "this repository's cap" if self.of_repository else "the cap"
        return f"{whose} of {money(self.amount, self.currency)} a {self.window}"


class SpendingSettings(BaseModel):
    """Prices and caps. Env: `TROOP_SPENDING_...`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    prices: Prices = ()
    """Of a million tokens by model, prompt/cached/completion: `gpt-5*=1.25/0.125/10 *=0/0`; the first that fits."""
    currency: str = Field("USD", max_length=10)
    """The prices' currency, a word."""
    run: Amount = 0.0
    """Cap of one run: it ends its sampling and counts what it has; 0: none."""
    day: Amount = 0.0
    """Cap of a day (UTC): runs under way end their sampling, new ones wait for the next day; 0: none."""
    month: Amount = 0.0
    """Cap of a month (UTC), likewise; 0: none."""
    repository_day: Amount = 0.0
    """Cap of a day for each repository; 0: none."""
    repository_month: Amount = 0.0
    """Cap of a month for each repository; 0: none."""

    @model_validator(mode="after")
    def _caps_need_prices(self) -> "SpendingSettings":
        if self.caps and not self.prices:
            raise ValueError(
                f"{self.caps[0].variable} is set, and no price: nothing would ever be spent; set TROOP_SPENDING_PRICES"
            )
        return self

    @property
    def caps(self) -> tuple[Cap, ...]:
        """Those that are set."""
        found: list[tuple[str, float, Window, bool]] = [
            ("RUN", self.run, "run", False),
            ("DAY", self.day, "day", False),
            ("MONTH", self.month, "month", False),
            ("REPOSITORY_DAY", self.repository_day, "day", True),
            ("REPOSITORY_MONTH", self.repository_month, "month", True),
        ]
        return tuple(
            Cap(
                amount=amount,
                window=window,
                of_repository=own,
                variable=f"TROOP_SPENDING_{name}",
                currency=self.currency,
            )
            for name, amount, window, own in found
            if amount
        )

    def price(self, model: str) -> Price | None:
        """The model's price; None where no pattern fits its name."""
        for pattern, price in map(read_price, self.prices):
            if fnmatch.fnmatchcase(model.lower(), pattern.lower()):
                return price
        return None

    def unpriced(self, *models: str) -> str:
        """What is wrong where there are caps, and one of the models has no price; "" where nothing is."""
        for model in models:
            if self.caps and self.price(model) is None:
                return (
                    f"{self.caps[0].variable} is set, but TROOP_SPENDING_PRICES has no price of the model {model}, so "
                    f"that it could not hold: add {model}=PROMPT/COMPLETION, or *=0/0 for models that cost nothing"
                )
        return ""
