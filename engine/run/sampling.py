"""Sampling of all rows at once, exact, with random numbers that depend on nothing but (seed, position).

A token is first drawn from the whole distribution by inverse transform. With top-p or min-p it is then checked
whether that token belongs to the kept set, which takes sums but no sort; the few rows where it does not are drawn
again from the sorted, filtered distribution. Both draws given the outcome of the check follow the filtered
distribution, so the result does. The random numbers come from a hash of seed, position and draw: what else is in the
batch cannot change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.schedule.sequence import SamplingParams

Numbers = np.ndarray[Any, Any]

GREEDY = 1e-5  # temperatures below are greedy


@dataclass(frozen=True)
class Draw:
    """One row: how to sample it, with which random numbers."""

    params: SamplingParams
    seed: int
    position: int  # tokens sampled before


def uniforms(seeds: Sequence[int], positions: Sequence[int], draw: int) -> Numbers:
    """One number in [0, 1) per row, float64: SplitMix64 (Steele et al., OOPSLA 2014), chained over its three inputs."""
    mask = 0xFFFF_FFFF_FFFF_FFFF
    state = np.array([seed & mask for seed in seeds], dtype=np.uint64)
    for value in (np.array(positions, dtype=np.uint64), np.uint64(draw)):
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
def sample(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Sample one token per row.

    Args:
        logits: `[rows, vocabulary]` float32, finite maximum in each row; unchanged.
        draws: one per row.

    Returns:
        `[rows]` int64.
    """
    hot = [row for row, draw in enumerate(draws) if draw.params.temperature >= GREEDY]
    if not hot:
        return logits.argmax(dim=-1)
    if len(hot) == len(draws):
        return _sample_hot(logits, draws)
    tokens = logits.argmax(dim=-1)
    index = torch.tensor(hot, device=logits.device)
    tokens[index] = _sample_hot(logits[index], [draws[row] for row in hot])
    return tokens


def _sample_hot(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Inverse transform in two levels, so that nothing as wide as the vocabulary is summed up number by number: the
    piece of the vocabulary, then the token in it.
    """
    seeds, positions = [draw.seed for draw in draws], [draw.position for draw in draws]
    temperature, uniform = _columns([draw.params.temperature for draw in draws], uniforms(seeds, positions, 0), logits)
    temperature = temperature.float()
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
    if all(d.params.top_p >= 1 and d.params.top_k == 0 and d.params.min_p == 0 for d in draws):
        return tokens[:, 0]
    kept = _in_kept_set(probabilities, total, tokens, draws)
    again = (~kept).nonzero()[:, 0]
    if again.numel():
        rows = again.tolist()
        second = uniforms([seeds[row] for row in rows], [positions[row] for row in rows], 1)
        tokens[again, 0] = _sample_sorted(probabilities[again], [draws[row] for row in rows], second)
    return tokens[:, 0]


def _columns(first: Sequence[float], second: Numbers, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers for each row as `[rows, 1]` float64 beside `like`, brought to a GPU without waiting for it: the host
    goes on to plan while a step is still being computed.
    """
    both = torch.from_numpy(np.stack((np.asarray(first, dtype=np.float64), second)))
    if like.device.type == "cuda":
        both = both.pin_memory().to(like.device, non_blocking=True)
    return both[0][:, None], both[1][:, None]


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


def _in_kept_set(probabilities: Tensor, total: Tensor, tokens: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`[rows]` bool: whether each drawn token survives its row's filters. Ties are ordered by token."""
    device = probabilities.device
    top_p = torch.tensor([d.params.top_p for d in draws], dtype=torch.float64, device=device)
    min_p = torch.tensor([d.params.min_p for d in draws], device=device)
    chosen = probabilities.gather(1, tokens)
    ahead = probabilities > chosen
    columns = torch.arange(probabilities.shape[1], device=device)
    ahead |= (probabilities == chosen) & (columns < tokens)
    mass = probabilities.mul(ahead).sum(dim=-1, dtype=torch.float64) / total[:, 0]
    kept = ((mass < top_p) | (top_p >= 1)) & (chosen[:, 0] >= min_p)  # the largest probability is scaled to 1
    limits = [d.params.top_k for d in draws]
    if any(limits):
        rank = ahead.sum(dim=-1)
        top_k = torch.tensor([limit or probabilities.shape[1] for limit in limits], device=device)
        # With both, top-p applies to what top-k left, whose mass is not known here: such rows are always sorted.
        both = torch.tensor([d.params.top_k > 0 and d.params.top_p < 1 for d in draws], device=device)
        kept &= (rank < top_k) & ~both
    return kept


def _sample_sorted(probabilities: Tensor, draws: Sequence[Draw], uniform: Numbers) -> Tensor:
    """Draw from the filtered distribution by sorting it, or its top where every row has a top-k. Unnormalised
    probabilities `[rows, vocabulary]`.
    """
    device, vocabulary = probabilities.device, probabilities.shape[1]
    limits = [d.params.top_k or vocabulary for d in draws]
    if 16 * max(limits) <= vocabulary:
        ordered, index = _likeliest(probabilities, max(limits))
    else:
        ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    top_k = torch.tensor(limits, device=device)[:, None]
    weights = ordered.double() * (torch.arange(ordered.shape[1], device=device) < top_k)
    sums = weights.cumsum(dim=-1)
    top_p = torch.tensor([d.params.top_p for d in draws], dtype=torch.float64, device=device)[:, None]
    min_p = torch.tensor([d.params.min_p for d in draws], device=device)[:, None]
    keep = (sums - weights < top_p * sums[:, -1:]) & (ordered >= min_p * ordered[:, :1])
    keep[:, 0] = True
    cumulative = (weights * keep).cumsum(dim=-1)
    target = torch.from_numpy(uniform).to(device)[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True).clamp_(max=ordered.shape[1] - 1)
    return index.gather(1, place)[:, 0]


def _likeliest(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The beginning of a stable sort, falling: `[rows, count]` probabilities and tokens; of equal ones the first tokens
    count, which `topk` does not promise.
    """
    least = probabilities.topk(count, dim=-1).values[:, -1:]
    ties = probabilities == least
    room = count - (probabilities > least).sum(dim=-1, keepdim=True)
    beyond = (probabilities < least) | (ties & (ties.cumsum(dim=-1, dtype=torch.int32) > room))
    tokens = probabilities.masked_fill(beyond, -1.0).topk(count, dim=-1).indices.sort(dim=-1).values
    ordered, order = probabilities.gather(1, tokens).sort(dim=-1, descending=True, stable=True)
    return ordered, tokens.gather(1, order)


@torch.inference_mode()
def logprobs(logits: Tensor, tokens: Tensor, alternatives: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities under the model: of `tokens` `[rows]`, and of the `[rows, alternatives]` likeliest, with
    their ids.
    """
    everything = torch.log_softmax(logits, dim=-1)
    chosen = everything.gather(1, tokens[:, None])[:, 0]
    values, ids = everything.topk(alternatives, dim=-1)
    return chosen, values, ids
