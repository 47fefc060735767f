"""What tokens cost."""

from bot.records.record import Record
from bot.records.trajectory import Usage


class Price(Record):
    """What a model costs, in any currency, a million tokens. Without a price of their own, cached prompt tokens cost
    what others do."""

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        cached = self.prompt if self.cached is None else self.cached
        computed = max(0, usage.prompt_tokens - usage.cached_tokens)
        cost = computed * self.prompt + (usage.prompt_tokens - computed) * cached
        return (cost + usage.completion_tokens * self.completion) / 1e6


class Speed(Record):
    """How fast an endpoint computes, in tokens a second: prompts, and replies, one after the other."""

    prompt: float
    completion: float

    def of(self, usage: Usage) -> float:
        """Idealized runtime (arXiv 2305.02440), in seconds: prompt tokens that no cache has, then those generated."""
        computed = max(0, usage.prompt_tokens - usage.cached_tokens)
        return computed / self.prompt + usage.completion_tokens / self.completion


def money(amount: float, currency: str) -> str:
    """`12.30 USD`, `0.0042 USD`: two decimals, or two digits of less than a cent's tenth part."""
    decimals = 2 if amount >= 0.1 or amount <= 0 else 4
    return f"{amount:,.{decimals}f} {currency}".rstrip()
