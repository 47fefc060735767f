"""How long a text is."""

WORDS_PER_MINUTE = 200


def count_words(text):
    """Words between white space."""
    return len(text.split())


def reading_minutes(text):
    """Whole minutes, at least one."""
    return max(1, round(count_words(text) / WORDS_PER_MINUTE))


def most_common(text, number=3):
    """The commonest words, ties in the order of the alphabet."""
    counts = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))[:number]
