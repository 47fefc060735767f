"""Sparse attention by an index against its definition, written out row by row."""

import pytest
import torch
from torch import Tensor

from kernels.attention.reference import plain
from kernels.sparse_attention import blocks, reference
from kernels.sparse_attention.blocks import Blocks, choose_blocks
from kernels.sparse_attention.reference import Texts, attend_chosen, choose

SIZE, MOST = 4, 6  # tokens of a block; tokens that are chosen
HEADS, KV_HEADS, DIM = 4, 2, 8


def texts_of(lengths: list[int], new: int) -> Texts:
    """Texts whose blocks are scattered; the last rows of each are in the batch."""
    width = max(-(-length // SIZE) for length in lengths)
    blocks = torch.randperm(len(lengths) * width).view(len(lengths), width)
    positions = torch.stack([torch.arange(length - new, length) for length in lengths])
    return Texts(torch.randperm(len(lengths) * new).view(-1, new), positions, blocks, SIZE)


def slots_of(texts: Texts, text: int) -> Tensor:
    return (texts.blocks[text][:, None] * SIZE + torch.arange(SIZE)).flatten()


@pytest.fixture(params=[1 << 24, 64], ids=["one-tile", "many-tiles"])
def _tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reference, blocks):
        monkeypatch.setattr(module, "NUMBERS", request.param)


SHAPES = pytest.mark.parametrize(("lengths", "new"), [([9], 1), ([7, 30, 12], 1), ([23], 17), ([20, 33], 5)])


@pytest.mark.usefixtures("_tiles")
@SHAPES
def test_the_tokens_with_the_highest_scores_are_chosen(lengths: list[int], new: int):
    texts = texts_of(lengths, new)
    rows, slots = texts.rows.numel(), texts.blocks.numel() * SIZE
    query, weights, keys = torch.randn(rows, 3, 5), torch.randn(rows, 3), torch.randn(slots + 1, 5)
    found = choose(query, weights, keys, texts, MOST, 0.7)
    for text in range(len(lengths)):
        for at in range(new):
            row, own = int(texts.rows[text, at]), int(texts.positions[text, at])
            products = (keys[slots_of(texts, text)[: own + 1]] @ query[row].T * 0.7).relu()
            best = (products @ weights[row]).sort(descending=True, stable=True).indices[:MOST]
            picked = found[text, at]
            assert picked[picked <= own].tolist() == sorted(best.tolist())


@pytest.mark.usefixtures("_tiles")
def test_of_equal_scores_the_earlier_are_chosen():
    texts = texts_of([19], 2)
    keys = torch.zeros(texts.blocks.numel() * SIZE, 5)
    keys[slots_of(texts, 0)[[3, 17]]] = 1.0
    found = choose(torch.ones(2, 3, 5), torch.ones(2, 3), keys, texts, MOST)
    assert found[0, 0].tolist() == found[0, 1].tolist() == [0, 1, 2, 3, 4, 17]


def test_scores_that_are_not_numbers_lead_to_no_other_place():
    texts = texts_of([19, 11], 1)
    found = choose(torch.full((2, 3, 5), torch.nan), torch.ones(2, 3), torch.ones(40, 5), texts, MOST)
    assert ((found >= 0) & (found < texts.length)).all()


@pytest.mark.usefixtures("_tiles")
@SHAPES
@pytest.mark.parametrize(("sinks", "cap"), [(False, None), (True, None), (False, 2.0)], ids=["plain", "sinks", "cap"])
def test_only_chosen_tokens_are_attended_to(lengths: list[int], new: int, sinks: bool, cap: float | None):
    """Both where each row reads its own keys and where a text's rows read all of them."""
    texts = texts_of(lengths, new)
    rows, slots = texts.rows.numel(), texts.blocks.numel() * SIZE
    query, caches = torch.randn(rows, HEADS, DIM), torch.randn(2, KV_HEADS, slots, DIM)
    sink = torch.randn(HEADS) if sinks else None
    liking = torch.rand(*texts.rows.shape, texts.length)
    liking[..., 0] = 1.0  # each row sees some token
    chosen = liking.topk(MOST).indices
    found, _ = attend_chosen(query, *caches, texts, chosen, (0.3, cap, sink))
    for text in range(len(lengths)):
        for at in range(new):
            seen = sorted({place for place in chosen[text, at].tolist() if place <= texts.positions[text, at]})
            own = slots_of(texts, text)[seen]
            asked = query[texts.rows[text, at]][None]
            wanted, lse = plain(asked, *(cache[:, own].transpose(0, 1) for cache in caches), 0.3, cap=cap)
            if sink is not None:
                wanted = wanted * torch.sigmoid(lse - sink)[..., None]
            torch.testing.assert_close(found[text, at][None], wanted)


PAIR = 2  # tokens of a block that is chosen as one


def pooled(keys: Tensor, firsts: Tensor) -> Tensor:
    """Blocks' keys: those of their tokens, and where they begin."""
    return keys.sum(dim=1) * (1 + firsts[:, None] / 10)


@pytest.mark.usefixtures("_tiles")
@SHAPES
def test_the_blocks_with_the_highest_scores_are_chosen_and_what_is_behind_the_last(lengths: list[int], new: int):
    most = 5
    texts = texts_of(lengths, new)
    rows, slots = texts.rows.numel(), texts.blocks.numel() * SIZE
    query, keys = torch.randn(rows, 3, 5), torch.randn(slots + 1, 5)
    found = choose_blocks(query, keys, texts, most, Blocks(PAIR, pooled))
    for text in range(len(lengths)):
        for at in range(new):
            row, own = int(texts.rows[text, at]), int(texts.positions[text, at])
            whole = (own + 1) // PAIR
            read = keys[slots_of(texts, text)[: whole * PAIR]].view(whole, PAIR, 5)
            scores = (pooled(read, torch.arange(whole) * PAIR) @ query[row].T).relu().sum(dim=-1)
            best = scores.sort(descending=True, stable=True).indices[: most // PAIR].tolist()
            wanted = [block * PAIR + place for block in sorted(best) for place in range(PAIR)]
            picked = found[text, at]
            assert picked[picked != texts.length].tolist() == [*wanted, *range(whole * PAIR, own + 1)]


def test_no_token_is_attended_to_twice_at_the_end_of_a_cache():
    """A text whose last token fills its last block: nothing is behind that, and nothing stands for it."""
    texts = texts_of([12], 1)
    query, caches = torch.randn(1, HEADS, DIM), torch.randn(2, KV_HEADS, 12, DIM)
    chosen = torch.tensor([[[2, 3, 10, 11, texts.length]]])
    found, _ = attend_chosen(query, *caches, texts, chosen, (0.3, None, None))
    wanted, _ = attend_chosen(query, *caches, texts, chosen[..., :-1], (0.3, None, None))
    torch.testing.assert_close(found, wanted)
    many = Texts(texts.rows.expand(1, 9), texts.positions.expand(1, 9), texts.blocks, SIZE)  # they read all keys
    found, _ = attend_chosen(query, *caches, many, chosen.expand(1, 9, -1), (0.3, None, None))
    torch.testing.assert_close(found, wanted.expand(1, 9, -1, -1))
