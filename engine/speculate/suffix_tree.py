"""A suffix structure over a prompt and the outputs that continue it: it finds what followed the longest context seen
before.

It is the suffix automaton (Blumer et al., 1985) of a trie of texts: the prompt is its trunk, outputs of sibling samples
are branches that grow side by side. Its links form the suffix tree of the reversed texts. Appending a token costs
amortised constant time, and memory is at most two states a token, 20 bytes each beside the states that branch. Every
state counts how often its contexts of up to `depth` tokens occurred, so that a guess comes with its frequency, as in
SuffixDecoding (Oliaro et al., arXiv 2411.04975).
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

DEPTH = 24  # tokens of context that count
WIDE = 48  # a context with more different continuations than this predicts nothing worth a scan

_NONE, _MANY = -1, -2  # in place of a state's only token


@dataclass(slots=True)
class Place:
    """The position of one text in a tree. Start with `Place()`; `SuffixTree.extend` moves it."""

    end: int = 0  # the state of the whole text; -1: the tree was full, the text is only followed
    state: int = 0  # the state of its last `length` tokens
    length: int = 0  # at most the tree's depth

    def fork(self) -> "Place":
        """A copy, for a text that continues differently."""
        return replace(self)


class Guess(NamedTuple):
    """The likeliest next token after a context, by counts."""

    token: int
    context: int  # tokens of the context that it was found after
    times: int  # how often the token followed that context
    total: int  # how often anything did


class SuffixTree:
    """The suffix automaton of a trie of texts. Not thread-safe."""

    def __init__(self, depth: int = DEPTH, limit: int = 1 << 18) -> None:
        """
        Args:
            depth: longest context in tokens, at least 1.
            limit: tokens that may be added; longer texts are followed without being added.
        """
        self.depth = depth
        self.limit = limit
        self.tokens = 0  # added so far
        # By state; 0 is the root. Most states have one continuation: it lies in two numbers, those of others in a dict.
        self._length = array("i", [0])  # of the longest text of the state
        self._link = array("i", [0])  # the state of its longest suffix that occurs elsewhere too
        self._count = array("i", [0])  # occurrences of its contexts of at most `depth` tokens
        self._token = array("i", [_NONE])
        self._target = array("i", [_NONE])
        self._branches: dict[int, dict[int, int]] = {}

    @property
    def states(self) -> int:
        """States so far: at most two a token, and the root."""
        return len(self._length)

    def extend(self, place: Place, tokens: Iterable[int]) -> None:
        """Append tokens to the text at `place`, and move `place` behind them. Amortised constant time each."""
        lengths, links, counts = self._length, self._link, self._count
        for token in tokens:
            if place.end < 0 or self.tokens >= self.limit:
                self._follow(place, token)
                continue
            self.tokens += 1
            place.end = end = self._append(place.end, token)
            length = min(place.length + 1, self.depth)
            if lengths[links[end]] < length:  # the context is nowhere else: it belongs to the same state as the text
                state = end
            else:
                state = self._settle(self._step(self._settle(place.state, place.length), token), length)
            place.state, place.length = state, length
            while state:
                counts[state] += 1
                state = links[state]

    def guesses(self, place: Place) -> Iterator[Guess]:
        """What is likely to follow the text at `place`, token by token, each assuming that those before are right.

        A guess is the most frequent continuation (of equals, the first found) of the longest context with any. They
        end where no context has one. Nothing may be added to the tree meanwhile.
        """
        lengths, links, counts = self._length, self._link, self._count
        tokens, targets, branches = self._token, self._target, self._branches
        most = self.depth - 1  # a context and its continuation together are a context that counts
        length = min(place.length, most)
        state = self._settle(place.state, length)
        while True:
            while state and tokens[state] == _NONE:
                state = links[state]
                length = lengths[state]
            if not state:
                return
            token = tokens[state]
            if token == _MANY:
                choices = branches[state]
                if len(choices) > WIDE:
                    return
                best = total = 0
                target = 0
                for choice, child in choices.items():
                    count = counts[child]
                    total += count
                    if count > best:
                        best, token, target = count, choice, child
            else:
                target = targets[state]
                best = total = counts[target]
            yield Guess(token, length, best, total)
            length = min(length + 1, most)
            state = self._settle(target, length)

    def count(self, context: Iterable[int]) -> int:
        """How often `context`, of 1 to `depth` tokens, occurred."""
        state = 0
        for token in context:
            state = self._step(state, token)
            if state < 0:
                return 0
        return self._count[state]

    # -- the automaton --------------------------------------------------------------------------------------------

    def _step(self, state: int, token: int) -> int:
        """The state after `token`, or a negative number."""
        only = self._token[state]
        if only == token:
            return self._target[state]
        if only == _MANY:
            return self._branches[state].get(token, _NONE)
        return _NONE

    def _set(self, state: int, token: int, target: int) -> None:
        only = self._token[state]
        if only in (_NONE, token):
            self._token[state], self._target[state] = token, target
        elif only == _MANY:
            self._branches[state][token] = target
        else:
            self._branches[state] = {only: self._target[state], token: target}
            self._token[state] = _MANY

    def _new(self, length: int, link: int, count: int, token: int, target: int) -> int:
        self._length.append(length)
        self._link.append(link)
        self._count.append(count)
        self._token.append(token)
        self._target.append(target)
        return len(self._length) - 1

    def _settle(self, state: int, length: int) -> int:
        """The state that holds the suffix of `length` tokens of the texts of `state`: a split may have moved it."""
        lengths, links = self._length, self._link
        while state and lengths[links[state]] >= length:
            state = links[state]
        return state

    def _append(self, end: int, token: int) -> int:
        """The state of the text of `end` with `token` behind it; made where there is none."""
        lengths, links = self._length, self._link
        target = self._step(end, token)
        if target >= 0:  # another text went on in the same way
            return target if lengths[target] == lengths[end] + 1 else self._split(end, token, target)
        new = self._new(lengths[end] + 1, 0, 0, _NONE, _NONE)
        state = end
        while (target := self._step(state, token)) < 0:
            self._set(state, token, new)
            if not state:
                return new
            state = links[state]
        links[new] = target if lengths[target] == lengths[state] + 1 else self._split(state, token, target)
        return new

    def _split(self, state: int, token: int, target: int) -> int:
        """Move the texts of `target` that are those of `state` and `token`, or suffixes of them, to a new state."""
        lengths, links = self._length, self._link
        new = self._new(
            lengths[state] + 1, links[target], self._count[target], self._token[target], self._target[target]
        )
        if self._token[target] == _MANY:
            self._branches[new] = dict(self._branches[target])
        links[target] = new
        while self._step(state, token) == target:
            self._set(state, token, new)
            if not state:
                break
            state = links[state]
        return new

    def _follow(self, place: Place, token: int) -> None:
        """Move `place` to the longest context that is there, without adding anything."""
        place.end = _NONE
        state, length = self._settle(place.state, place.length), place.length
        while (target := self._step(state, token)) < 0 and state:
            state = self._link[state]
            length = self._length[state]
        place.length = min(length + 1, self.depth) if target >= 0 else 0
        place.state = self._settle(target, place.length) if target >= 0 else 0
