"""What a scheduler has done."""

from dataclasses import dataclass, field


@dataclass
class Counters:
    """What happened since the start; only ever grows."""

    computed_tokens: int = 0  # rows that went through the model for a prompt, recomputation included
    cached_tokens: int = 0  # prompt tokens taken from the cache instead
    prompt_tokens: int = 0  # of all sequences admitted, each child counted
    generated_tokens: int = 0
    drafted_tokens: int = 0  # rows that went through the model for a draft
    accepted_tokens: int = 0  # of these, those that were sampled
    preemptions: int = 0
    evicted_blocks: int = 0
    finished: dict[str, int] = field(default_factory=dict)  # sequences by reason
