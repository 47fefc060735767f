"""The tests' own waits, and that no library brings a shorter one of its own."""

import httpx
import hypothesis
import pytest

from tests.patience import PATIENCE, eventually, growing, turns, until


async def test_a_true_value_ends_the_wait_and_a_hang_is_told() -> None:
    values = [0, "", 7, 0, "", 8]
    assert until(lambda: values.pop(0)) == 7
    assert await eventually(lambda: values.pop(0)) == 8
    with pytest.raises(AssertionError, match=r"nothing after 0\.02 s"):
        until(lambda: False, 0.02)
    with pytest.raises(AssertionError, match=r"nothing after 0\.02 s"):
        await eventually(lambda: False, 0.02)
    await turns()


def test_limits_that_grow() -> None:
    limits = list(growing(1.0))
    assert limits[:3] == [1, 2, 4]
    assert PATIENCE / 2 <= limits[-1] < PATIENCE


def test_no_library_is_less_patient() -> None:
    with httpx.Client() as client:
        limits = client.timeout
    assert {limits.connect, limits.read, limits.write, limits.pool} == {PATIENCE}
    profile = hypothesis.settings()
    assert profile.deadline is None
    assert hypothesis.HealthCheck.too_slow in profile.suppress_health_check
