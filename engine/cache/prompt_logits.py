"""Logits after prompts that may come again: siblings and equal requests then compute nothing of the prompt."""

from collections import OrderedDict

from torch import Tensor

LIMIT = 32 << 20  # bytes, of logits and prompts together
TOKEN_BYTES = 36  # of a prompt's token in a list


class PromptLogits:
    """The logits of the most recently used prompts."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, tuple[list[int], Tensor]] = OrderedDict()
        self._bytes = 0

    def __contains__(self, prompt: tuple[int, list[int]]) -> bool:
        """Whether the logits after a prompt, given as `(hash, tokens)`, are known."""
        known = self._entries.get(prompt[0])
        return known is not None and (known[0] is prompt[1] or known[0] == prompt[1])

    def __getitem__(self, key: int) -> Tensor:
        """Logits of a prompt that is known, by its hash: `[vocabulary]` float32."""
        return self._entries[key][1]

    def put(self, key: int, prompt: list[int], logits: Tensor) -> None:
        """Keep a copy of `logits`; the least recently used are dropped, except for the last two."""
        self.forget(key)
        self._entries[key] = (prompt, logits.clone())
        self._bytes += self._size(key)
        while self._bytes > LIMIT and len(self._entries) > 2:
            self.forget(next(iter(self._entries)))

    def forget(self, key: int) -> None:
        """Drop a prompt, if it is known."""
        if key in self._entries:
            self._bytes -= self._size(key)
            del self._entries[key]

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._bytes = 0

    def _size(self, key: int) -> int:
        prompt, logits = self._entries[key]
        return logits.nbytes + TOKEN_BYTES * len(prompt)
