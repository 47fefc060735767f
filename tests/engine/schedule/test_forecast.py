"""The forecast of blocks against a plain simulation."""

import random

from engine.schedule.forecast import Forecast
from engine.schedule.sequence import Request, SamplingParams, Sequence
from engine.text.output import ByteDecoder, OutputText


def sequence(rng: random.Random) -> Sequence:
    most = rng.randint(1, 60)
    request = Request([1, 2], SamplingParams(max_tokens=most))
    made = rng.randrange(most)
    return Sequence(request, 0, [1, 2, *range(made)], 0, OutputText(ByteDecoder([])))


def simulated(sequences: list[Sequence], size: int, typical: float) -> int:
    """Block by block: all grow equally, and a sequence that ends returns what it held at the start."""
    ends = []
    for one in sequences:
        expected = max(typical, 1.5 * one.generated) - one.generated
        ends.append((max(1, min(one.remaining, int(expected))), one.generated // size))
    peak = 0
    for until, _ in ends:
        alive = sum(1 for other, _ in ends if other >= until)
        returned = sum(held for other, held in ends if other < until)
        peak = max(peak, alive * (until // size) - returned)
    return peak


def test_growth_is_that_of_the_simulation():
    rng = random.Random(3)
    for _ in range(200):
        size, typical = rng.randint(1, 9), rng.choice([0.0, 5.5, 64.0])
        running = [sequence(rng) for _ in range(rng.randint(0, 12))]
        forecast = Forecast(running, size, typical)
        for newcomer in [sequence(rng) for _ in range(4)]:
            assert forecast.growth(newcomer) == simulated([*running, newcomer], size, typical)
            forecast.add(newcomer)
            running.append(newcomer)
