from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bot.capuchin.exercises.scenes import Scenes
from bot.capuchin.exercises.turns import said
from bot.capuchin.training import data
from bot.capuchin.training import tokenizer as tok
from bot.capuchin.training.evaluate import TEST, sampler
from bot.capuchin.training.export import config, export
from bot.capuchin.training.model import Capuchin, Shape
from bot.capuchin.training.optimizer import Rates, orthogonal
from bot.capuchin.training.train import TOKENS, Job, Plan, Shards, factor, train

CHECKPOINT = Path(__file__).parents[4] / "engine" / "checkpoints" / "capuchin"
TINY = Shape(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=48
)

ISSUE = """<issue>
clamp gives the wrong result
`clamp(5, 1, 3)` returns `1`, but `3` is expected.
</issue>
<file path="calc/limits.py">
def clamp(value, low, high):
    if value > high:
        return low
    if value < low:
        return low
    return value
</file>
Write a test."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and lose much where other work is on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shards(scenes: Scenes, tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    tokenizer = tok.load(CHECKPOINT)
    for number in range(3):
        data.write_shard(scenes, tokenizer, folder / f"{number:05}.npz", seed=number, count=150)
    return folder


def test_batches_have_one_size_and_the_shards_are_taken(shards: Path) -> None:
    batches = iter(Shards(shards, seed=1))
    ids, classes = next(batches)
    assert ids.numel() == TOKENS
    assert ids.shape == classes.shape
    assert (classes == tok.REPLY).any()
    assert (shards / "taken").read_text() == "1"


def test_a_tiny_network_learns_is_saved_resumed_and_exported(shards: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    train(Job(run, shards, Plan(steps=4, warmup=1), TINY, Rates(), compiled=False))
    net = train(Job(run, shards, Plan(steps=6, warmup=1), TINY, Rates(), compiled=False))  # goes on at step 4
    lines = (run / "training.jsonl").read_text().splitlines()
    assert len(lines) == 1  # step 1 alone is logged
    ids = torch.randint(0, 4096, (2, 64))
    loss, _ = net.loss(ids, torch.ones(2, 64))
    assert bool(loss.isfinite())
    export(net.to_transformers(), TINY, CHECKPOINT, out)
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= {
        p.name for p in out.iterdir()
    }


def test_transformers_computes_the_same_logits() -> None:
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    net = Capuchin(TINY)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    other = LlamaForCausalLM(config(TINY))
    other.load_state_dict(net.to_transformers(), strict=False)
    other.tie_weights()
    ids = torch.randint(0, 4096, (2, 40))
    with torch.inference_mode():
        ours = torch.nn.functional.linear(net.hidden(ids), net.embed).view(2, 40, -1)
        torch.testing.assert_close(ours, other(ids).logits, rtol=1e-4, atol=1e-4)


def test_training_goes_on_from_a_checkpoint(shards: Path, tmp_path: Path) -> None:
    net = Capuchin(TINY)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    export(net.to_transformers(), TINY, CHECKPOINT, tmp_path / "first")
    (shards / "00000.npz").rename(shards / f"{data.SETTLED:05}.npz")
    plan = Plan(steps=1, warmup=10**9)  # a rate of nothing
    again = train(Job(tmp_path / "run", shards, plan, TINY, Rates(), compiled=False), start=tmp_path / "first")
    for name, tensor in net.to_transformers().items():
        assert torch.equal(again.to_transformers()[name], tensor.bfloat16()), name


def test_newton_schulz_makes_singular_values_about_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 24, 64)))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.4


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    plan = Plan(warmup=10)
    assert factor(plan, 0, 0.0) == pytest.approx(0.1)
    assert factor(plan, 50, 0.2) == 1.0
    assert factor(plan, 50, 1.0) == 0.0


async def test_the_checkpoint_is_small_and_writes_a_test() -> None:
    assert sum(p.stat().st_size for p in CHECKPOINT.rglob("*") if p.is_file()) < 25e6
    async with sampler(CHECKPOINT) as model:
        reply = (await model.sample([said(ISSUE)], 1, temperature=0.0))[0]
    found = TEST.fullmatch(reply)
    assert found is not None
    assert "clamp(5, 1, 3)" in found[1]
