"""The suffix structure against counting by hand: texts that branch, grow at once, and outgrow the tree."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.speculate.suffix_tree import WIDE, Guess, Place, SuffixTree

LIMITED = settings(max_examples=150, deadline=None, derandomize=True)

# (text to continue, or a new branch of it, with these tokens)
OPERATIONS = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.lists(st.integers(0, 2), min_size=1, max_size=12)), max_size=14
)


class Naive:
    """Every occurrence of every context of up to `depth` tokens, counted as it is added."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.counts: Counter[tuple[int, ...]] = Counter()

    def extend(self, text: list[int], tokens: list[int]) -> None:
        for token in tokens:
            text.append(token)
            for length in range(1, min(self.depth, len(text)) + 1):
                self.counts[tuple(text[-length:])] += 1

    def followers(self, context: tuple[int, ...]) -> dict[int, int]:
        longer = len(context) + 1
        return {key[-1]: n for key, n in self.counts.items() if len(key) == longer and key[:-1] == context}

    def guess(self, text: list[int]) -> tuple[int, dict[int, int]] | None:
        """The longest context at the end of `text` with a continuation, its length and its continuations."""
        for length in range(min(self.depth - 1, len(text)), 0, -1):
            found = self.followers(tuple(text[-length:]))
            if found:
                return length, found
        return None


def check_guesses(tree: SuffixTree, naive: Naive, place: Place, text: list[int]) -> None:
    ahead = list(text)
    for number, guess in enumerate(tree.guesses(place)):
        expected = naive.guess(ahead)
        assert expected is not None
        length, followers = expected
        assert guess.context == length
        assert guess.total == sum(followers.values())
        assert guess.times == max(followers.values()) == followers[guess.token]
        ahead.append(guess.token)
        if number == 10:
            return
    assert naive.guess(ahead) is None


@LIMITED
@given(OPERATIONS, st.integers(1, 7))
def test_counts_and_guesses_are_those_of_counting_by_hand(
    operations: list[tuple[int, bool, list[int]]], depth: int
) -> None:
    tree, naive = SuffixTree(depth), Naive(depth)
    texts: list[tuple[list[int], Place]] = [([], Place())]
    for which, branch, tokens in operations:
        text, place = texts[which % len(texts)]
        if branch:
            text, place = list(text), place.fork()
            texts.append((text, place))
        naive.extend(text, tokens)
        tree.extend(place, tokens)
        for text, place in texts:
            check_guesses(tree, naive, place, text)
    for context, count in naive.counts.items():
        assert tree.count(context) == count
    assert tree.count([3]) == 0
    assert tree.tokens == sum(len(tokens) for _, _, tokens in operations)
    assert tree.states <= 2 * tree.tokens + 1


@LIMITED
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=30), st.integers(1, 30)
)
def test_a_full_tree_is_followed_and_no_longer_grows(known: list[int], more: list[int], limit: int) -> None:
    tree = SuffixTree(6, limit)
    naive = Naive(6)
    naive.extend([], known[:limit])
    place, other = Place(), Place()
    tree.extend(place, known)
    states = tree.states
    if tree.tokens < limit:
        return
    tree.extend(other, more)
    assert tree.states == states
    assert tree.tokens == limit
    check_guesses(tree, naive, other, more)


def test_a_long_repetition_costs_no_more_than_its_length() -> None:
    tree, place = SuffixTree(24), Place()
    tree.extend(place, [1] * 20_000)  # every suffix of it occurs elsewhere: a chain of 20,000 links
    assert next(tree.guesses(place)) == Guess(1, 23, 20_000 - 23, 20_000 - 23)
    tree.extend(place, [2, 1, 1])
    assert next(tree.guesses(place)).token == 1


def test_siblings_guess_what_most_of_them_said() -> None:
    tree, trunk = SuffixTree(), Place()
    tree.extend(trunk, [1, 2, 3])
    for said in ([7, 8], [7, 9], [5, 9], [7, 9]):
        tree.extend(trunk.fork(), said)
    guesses = list(tree.guesses(trunk))
    assert guesses == [Guess(7, 3, 3, 4), Guess(9, 4, 2, 3)]


def test_a_context_with_very_many_continuations_is_no_guess() -> None:
    tree, trunk = SuffixTree(), Place()
    tree.extend(trunk, [1])
    for token in range(10, 10 + WIDE):
        tree.extend(trunk.fork(), [token])
    assert next(tree.guesses(trunk)).total == WIDE
    tree.extend(trunk.fork(), [9])
    assert not list(tree.guesses(trunk))
