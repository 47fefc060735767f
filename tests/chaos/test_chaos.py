"""The short form of `make chaos`, on both databases."""

import pytest

from tests.chaos.__main__ import chaos
from tests.services import _postgres_socket, redis_executable

__all__ = ["_postgres_socket"]

pytestmark = pytest.mark.service


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_run_is_lost_doubled_or_stuck(kind: str, request: pytest.FixtureRequest) -> None:
    if redis_executable() is None:
        pytest.skip("no redis-server: apt-get install redis-server")
    if kind == "postgresql":
        request.getfixturevalue("_postgres_socket")  # skips where there is none
    count = chaos(kind, runs=3, kills=4, seed=7, in_flight=3, docker=kind == "sqlite")
    assert count.good, str(count)
    assert count.runs >= 3
    assert count.kills.total() == 4
