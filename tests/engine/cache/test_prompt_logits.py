"""Logits of prompts: found again by their tokens, and bounded in bytes."""

import pytest
import torch

from engine.cache import prompt_logits
from engine.cache.prompt_logits import TOKEN_BYTES, PromptLogits


def test_a_prompt_is_known_by_its_tokens_not_by_its_hash_alone():
    known = PromptLogits()
    logits = torch.arange(4.0)
    known.put(1, [5, 6], logits)
    logits.zero_()
    assert known[1].tolist() == [0, 1, 2, 3], "a copy"
    assert (1, [5, 6]) in known
    assert (1, [5, 7]) not in known
    assert (2, [5, 6]) not in known
    known.forget(1)
    known.forget(1)
    assert (1, [5, 6]) not in known


def test_long_prompts_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_logits, "LIMIT", 10 * (16 + 100 * TOKEN_BYTES))
    known = PromptLogits()
    for key in range(30):
        known.put(key, [key] * 100, torch.zeros(4))
        known.put(key, [key] * 100, torch.zeros(4))
    assert [key for key in range(30) if (key, [key] * 100) in known] == list(range(20, 30))
    known.put(99, [1] * 5000, torch.zeros(4))
    assert (99, [1] * 5000) in known, "the last is kept whatever its size"
    known.clear()
    assert (99, [1] * 5000) not in known
