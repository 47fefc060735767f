"""Sampling of all rows at once, exact, with random numbers that depend on nothing but (seed, position).

A token is first drawn from the whole distribution by inverse transform. With top-p or min-p it is then checked
whether that token belongs to the kept set, which takes sums but no sort; the few rows where it does not are drawn
again from the sorted, filtered distribution. Both draws given the outcome of the check follow the filtered
distribution, so the result does. Rows with a top-k that is small beside the vocabulary are drawn from those few logits
alone, which takes no second look and no wait for the device. The random numbers come from a hash of seed, position and
draw: what else is in the batch cannot change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from engine.schedule.sequence import SamplingParams

Numbers = np.ndarray[Any, Any]

GREEDY = 1e-5  # temperatures below are greedy
FEW = 16  # how many times as large as a top-k the vocabulary is, for which only the likeliest are looked at
SORTED = 1 << 24  # numbers sorted at once: each takes 40 bytes meanwhile
RESIDENT = 1 << 19  # logits that a CPU's caches hold from one pass over them to the next
SLACK = 64  # logits beside the likeliest, so that of equal ones the first tokens are found


@dataclass(frozen=True)
class Draw:
    """One row: how to sample it, with which random numbers."""

    params: SamplingParams
    seed: int
    position: int  # tokens sampled before


class Filters(NamedTuple):
    """What is the same for a row at each step, as `[rows, 1]` on the device."""

    temperature: Tensor  # float32
    top_p: Tensor  # float64
    min_p: Tensor  # float32
    top_k: Tensor  # int64, 0: off


class Draws:
    """The rows of a step as columns. What does not change from step to step is brought to the device once."""

    def __init__(self, seeds: Numbers, positions: Numbers, params: Numbers, known: dict[str, Filters] | None) -> None:
        """
        Args:
            seeds: `[rows]` uint64.
            positions: `[rows]` int64, tokens sampled before.
            params: `[4, rows]` float64: temperature, top-p, min-p, top-k.
            known: filters by device, of the same rows in another step.
        """
        self.seeds = seeds
        self.positions = positions
        self.params = params
        self._known: dict[str, Filters] = {} if known is None else known

    @classmethod
    def of(cls, draws: Sequence[Draw]) -> Self:
        """Columns of single draws."""
        mask = 0xFFFF_FFFF_FFFF_FFFF
        seeds = np.array([draw.seed & mask for draw in draws], dtype=np.uint64)
        positions = np.array([draw.position for draw in draws], dtype=np.int64)
        params = [(p.temperature, p.top_p, p.min_p, p.top_k) for p in (draw.params for draw in draws)]
        return cls(seeds, positions, np.array(params, dtype=np.float64).reshape(-1, 4).T, None)

    def __len__(self) -> int:
        return len(self.seeds)

    def next(self) -> "Draws":
        """The same rows, each a token later."""
        return Draws(self.seeds, self.positions + 1, self.params, self._known)

    def of_rows(self, rows: Numbers | slice) -> "Draws":
        """Some of the rows, by number or by truth value."""
        return Draws(self.seeds[rows], self.positions[rows], self.params[:, rows], None)

    def uniforms(self, draw: int) -> Numbers:
        """See the function."""
        return uniforms(self.seeds, self.positions, draw)

    def filters(self, like: Tensor) -> Filters:
        """The filters beside `like`."""
        place = str(like.device)
        found = self._known.get(place)
        if found is None:
            temperature, top_p, min_p, top_k = _beside(self.params, like)[:, :, None]
            found = Filters(temperature.float(), top_p, min_p.float(), top_k.long())
            self._known[place] = found
        return found


def uniforms(seeds: Sequence[int] | Numbers, positions: Sequence[int] | Numbers, draw: int) -> Numbers:
    """One number in [0, 1) per row, float64: SplitMix64 (Steele et al., OOPSLA 2014), chained over its three inputs."""
    mask = 0xFFFF_FFFF_FFFF_FFFF
    state = seeds if isinstance(seeds, np.ndarray) else np.array([seed & mask for seed in seeds], dtype=np.uint64)
    for value in (np.asarray(positions).astype(np.uint64), np.uint64(draw)):
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15)) ^ value
    last = _mix(state + np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
    numbers: Numbers = last.astype(np.float64) * 2.0**-53
    return numbers


def _mix(z: Numbers) -> Numbers:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Numbers = z ^ (z >> np.uint64(31))
    return mixed


@torch.inference_mode()
def sample(logits: Tensor, draws: Sequence[Draw] | Draws) -> Tensor:
    """Sample one token per row.

    Args:
        logits: `[rows, vocabulary]` float32, finite maximum in each row; unchanged.
        draws: one per row.

    Returns:
        `[rows]` int64.
    """
    columns = draws if isinstance(draws, Draws) else Draws.of(draws)
    temperature, _, _, top_k = columns.params
    hot = temperature >= GREEDY
    few = hot & (top_k > 0) & (top_k * FEW <= logits.shape[1])
    if few.all():
        return _sample_few(logits, columns)
    if hot.all() and not few.any():
        return _sample_hot(logits, columns)
    tokens = logits.argmax(dim=-1)
    for rows, way in ((few, _sample_few), (hot & ~few, _sample_hot)):
        if rows.any():
            index = _beside(np.flatnonzero(rows), logits)
            tokens[index] = way(logits[index], columns.of_rows(rows))
    return tokens


def _sample_few(logits: Tensor, draws: Draws) -> Tensor:
    """Draw from the likeliest alone, where each row has a top-k."""
    ordered, tokens = _likeliest(logits, int(draws.params[3].max()))
    filters = draws.filters(logits)
    weights = ordered.sub(ordered[:, :1]).div_(filters.temperature).exp_()  # of the likeliest: 1
    return _draw_ordered(weights, tokens, filters, _beside(draws.uniforms(1), logits))


def _parts(logits: Tensor) -> list[slice]:
    """Rows that go through all passes together: all of them on a GPU; on a CPU so few that the passes after the first
    find them in its caches, and that what each pass writes needs no new pages. None of several has a lone row, whose
    sums threads may share.
    """
    rows, vocabulary = logits.shape
    count = max(1, rows // max(2, RESIDENT // vocabulary)) if logits.device.type == "cpu" else 1
    return [slice(part * rows // count, (part + 1) * rows // count) for part in range(count)]


def _sample_hot(logits: Tensor, draws: Draws) -> Tensor:
    """Draw from the whole vocabulary."""
    parts = _parts(logits)
    if len(parts) == 1:
        return _sample_part(logits, draws)
    return torch.cat([_sample_part(logits[part], draws.of_rows(part)) for part in parts])


def _sample_part(logits: Tensor, draws: Draws) -> Tensor:
    """Inverse transform in two levels, so that nothing as wide as the vocabulary is summed up number by number: the
    piece of the vocabulary, then the token in it.
    """
    uniform, temperature = _beside(draws.uniforms(0), logits)[:, None], draws.filters(logits).temperature
    top = logits.amax(dim=-1, keepdim=True)  # becomes 0: no overflow at any temperature
    width = _piece(logits.shape[1])
    probabilities = logits.sub(top).div_(temperature).exp_()  # of the likeliest: 1
    sums = _sums(probabilities, width)
    cumulative = sums.cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    target = uniform * total
    piece = torch.searchsorted(cumulative, target, right=True).clamp_(max=sums.shape[1] - 1)
    inside = sums.gather(1, piece)
    share = (target - (cumulative.gather(1, piece) - inside)) / inside  # of the piece
    columns = piece * width + torch.arange(width, device=logits.device)
    weights = probabilities.gather(1, columns.clamp(max=logits.shape[1] - 1)).double()
    weights = weights.masked_fill_(columns >= logits.shape[1], 0).cumsum(dim=-1)
    within = share.clamp_(0, 1 - 2**-52) * weights[:, -1:]
    tokens = columns.gather(1, torch.searchsorted(weights, within, right=True).clamp_(max=width - 1))
    tokens = tokens.clamp_(max=logits.shape[1] - 1)
    _, top_p, min_p, top_k = draws.params
    if (top_p >= 1).all() and not top_k.any() and not min_p.any():
        return tokens[:, 0]
    kept = _in_kept_set(probabilities, total, tokens, draws)
    again = (~kept).nonzero()[:, 0]
    if again.numel():
        numbers = again.cpu().numpy()
        step = max(1, SORTED // logits.shape[1])
        for first in range(0, len(numbers), step):
            part = again[first : first + step]
            tokens[part, 0] = _sample_sorted(probabilities[part], draws.of_rows(numbers[first : first + step]))
    return tokens[:, 0]


def _beside(array: Numbers, like: Tensor) -> Tensor:
    """An array beside `like`, brought to a GPU without waiting for it: the host goes on to plan while a step is still
    being computed.
    """
    found = torch.from_numpy(np.ascontiguousarray(array))
    return found.pin_memory().to(like.device, non_blocking=True) if like.device.type == "cuda" else found


def _piece(vocabulary: int) -> int:
    """Tokens of a piece: about the square root, so that both levels are short."""
    width = 16
    while width * width < vocabulary:
        width *= 2
    return width


def _sums(probabilities: Tensor, width: int) -> Tensor:
    """`[rows, vocabulary]` -> sums of pieces of `width`, `[rows, pieces]` float64; the last may be shorter."""
    rows, vocabulary = probabilities.shape
    whole = vocabulary // width
    main = probabilities[:, : whole * width].view(rows, whole, width).sum(dim=-1, dtype=torch.float64)
    if whole * width == vocabulary:
        return main
    rest = probabilities[:, whole * width :].sum(dim=-1, keepdim=True, dtype=torch.float64)
    return torch.cat((main, rest), dim=1)


def _in_kept_set(probabilities: Tensor, total: Tensor, tokens: Tensor, draws: Draws) -> Tensor:
    """`[rows]` bool: whether each drawn token survives its row's filters. Ties are ordered by token."""
    filters = draws.filters(probabilities)
    top_p, min_p = filters.top_p[:, 0], filters.min_p[:, 0]
    chosen = probabilities.gather(1, tokens)
    ahead = probabilities > chosen
    columns = torch.arange(probabilities.shape[1], device=probabilities.device)
    ahead |= (probabilities == chosen) & (columns < tokens)
    mass = probabilities.mul(ahead).sum(dim=-1, dtype=torch.float64) / total[:, 0]
    kept = ((mass < top_p) | (top_p >= 1)) & (chosen[:, 0] >= min_p)  # the largest probability is scaled to 1
    if draws.params[3].any():
        top_k = filters.top_k[:, 0]
        # With both, top-p applies to what top-k left, whose mass is not known here: such rows are always sorted.
        kept &= (top_k == 0) | ((ahead.sum(dim=-1) < top_k) & (top_p >= 1))
    return kept


def _sample_sorted(probabilities: Tensor, draws: Draws) -> Tensor:
    """Draw from the filtered distribution by sorting it. Unnormalised probabilities `[rows, vocabulary]`."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    uniform = _beside(draws.uniforms(1), probabilities)
    return _draw_ordered(ordered, index, draws.filters(probabilities), uniform)


def _draw_ordered(ordered: Tensor, tokens: Tensor, filters: Filters, uniform: Tensor) -> Tensor:
    """Draw from the filtered distribution, given unnormalised probabilities in falling order with their tokens, both
    `[rows, some]`, where the first is 1, and a uniform number for each row.
    """
    place = torch.arange(ordered.shape[1], device=ordered.device)
    weights = ordered.double() * ((place < filters.top_k) | (filters.top_k == 0))
    sums = weights.cumsum(dim=-1)
    keep = (sums - weights < filters.top_p * sums[:, -1:]) & (ordered >= filters.min_p * ordered[:, :1])
    keep[:, 0] = True
    cumulative = (weights * keep).cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    at = torch.searchsorted(cumulative, target, right=True).clamp_(max=ordered.shape[1] - 1)
    return tokens.gather(1, at)[:, 0]


def _likeliest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The beginning of a stable sort, falling: `[rows, count]` values and tokens; of equal ones the first tokens count,
    which `topk` does not promise. So some more are taken; where even these do not hold all that equal the last, a GPU,
    whose answer is not waited for, goes by `topk`.
    """
    wide = min(count + SLACK, values.shape[1])
    found, tokens = values.topk(wide, dim=-1)
    if values.device.type == "cpu" and wide < values.shape[1] and bool((found[:, -1] == found[:, count - 1]).any()):
        least = found[:, count - 1 : count]
        ties = values == least
        room = count - (values > least).sum(dim=-1, keepdim=True)
        beyond = (values < least) | (ties & (ties.cumsum(dim=-1, dtype=torch.int32) > room))
        tokens = values.masked_fill(beyond, -torch.inf).topk(count, dim=-1).indices
    tokens = tokens.sort(dim=-1).values
    ordered, order = values.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return ordered[:, :count], tokens.gather(1, order[:, :count])


@torch.inference_mode()
def logprobs(logits: Tensor, tokens: Tensor, alternatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities under the model: of `tokens` `[rows]`, and of the `[rows, alternatives]` likeliest, with
    their ids.
    """
    found = [_logprobs(logits[part], tokens[part], alternatives) for part in _parts(logits)]
    chosen, values, ids = (torch.cat(column) for column in zip(*found, strict=True))
    return chosen, values, ids


def _logprobs(logits: Tensor, tokens: Tensor, alternatives: int) -> tuple[Tensor, Tensor, Tensor]:
    everything = torch.log_softmax(logits, dim=-1)
    values, ids = everything.topk(alternatives, dim=-1)
    return everything.gather(1, tokens[:, None])[:, 0], values, ids
