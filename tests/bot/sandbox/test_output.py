import pytest

from bot.sandbox import output
from bot.sandbox.output import Capped


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_beginning_and_the_end_are_kept(size: int) -> None:
    data = bytes(range(32, 127)) * 40
    capped = Capped(400)
    for start in range(0, len(data), size):
        capped.add(data[start : start + size])
    head, note, tail = capped.text.split("\n")
    assert head == data[:100].decode()
    assert tail == data[-300:].decode()
    assert note == f"[... {len(data) - 400} bytes left out ...]"
    assert capped.truncated


@pytest.mark.parametrize("size", [0, 99, 100, 101, 400])
def test_what_fits_is_whole(size: int) -> None:
    capped = Capped(400)
    capped.add(b"x" * size)
    assert capped.text == "x" * size
    assert not capped.truncated


def test_memory_is_bounded_and_a_flood_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "FLOOD", 1 << 20)
    capped = Capped(1000)
    while not capped.flooded:
        capped.add(b"y" * 4096)
        assert len(capped._head) + len(capped._tail) <= 250 + 2 * 750 + 4096
    assert capped.total == (1 << 20) + 4096


def test_what_is_no_utf8_is_replaced() -> None:
    capped = Capped(100)
    capped.add(b"caf\xe9 \xf0\x9f\x90\x92")
    assert capped.text == "caf\ufffd \U0001f412"
