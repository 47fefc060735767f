"""A model split over two processes (gloo, on the CPU) gives the texts of the whole one."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from engine.cli import main
from engine.core import Core
from engine.errors import LoadError
from engine.model.model import StepInput
from engine.model.shards import GatheredLinear, SummedLinear, alone, check_split
from engine.parallel.leader import LeadingModel
from engine.parallel.ranks import Ranks, dumps, loads
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams, State
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.buffers import WorkBuffers
from kernels.tree_attention.cut import CutCost
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from tests.engine.conftest import make_config, make_tokenizer, make_weights
from tests.engine.kinds.tiny import COMPRESSED, INDEXED, LATENT, QWEN4, SIZES
from tests.engine.model.test_dequantize import FORMS, checkpoint
from tests.engine.model.test_text_half import whole
from tests.engine.test_greedy import check, check_at_once, generate, greedy, prompts

STATES: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"]} | {
    name: size for name, size in SIZES.items() if name.startswith("linear_")
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "qwen2-biases": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "phi3-heads-not-split": ("Phi3", {"rms_norm_eps": 1e-6}),
    "olmo2-heads-not-split": ("Olmo2", {}),
    "olmo-hybrid-not-split": ("OlmoHybrid", STATES),
    "qwen3.5-a-layer-with-a-state": ("Qwen3_5Text", STATES),
    "mixtral": ("Mixtral", LOCAL_EXPERTS),
    "qwen3-moe": ("Qwen3Moe", EXPERTS),
    "qwen3-next-experts-and-states": ("Qwen3Next", STATES | EXPERTS | {"shared_expert_intermediate_size": 32}),
    "deepseek-v2-latent-attention": (
        "DeepseekV2",
        LATENT | EXPERTS | {"n_routed_experts": 4, "first_k_dense_replace": 1},
    ),
    "deepseek-v3-by-more-than-its-own-plan": (
        "DeepseekV3",
        LATENT | EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    ),
    "youtu-by-more-than-its-own-plan": ("Youtu", LATENT),
    "deepseek-v3.2-tokens-chosen-by-an-index": (
        "DeepseekV32",
        INDEXED | EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    ),
    "deepseek-v4-heads-not-split": ("DeepseekV4", SIZES | COMPRESSED | {"attention": "eager"}),
    "qwen4-heads-not-split": ("Qwen4ExpText", SIZES | QWEN4 | {"sliding_window": None}),
    "gpt-oss-sinks-and-biases": ("GptOss", LOCAL_EXPERTS | {"sliding_window": 9, "attention": "eager"}),
    "llama4-columns-side-by-side": (
        "Llama4Text",
        LOCAL_EXPERTS | {"attention_chunk_size": 16, "intermediate_size_mlp": 96},
    ),
    "lfm2-moe-not-split": ("Lfm2Moe", EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 0}),
    "hunyuan-by-our-own-plan": ("HunYuanDenseV1", {}),
}


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    """Two processes for all tests of this file; they load one model after another."""
    ranks = Ranks(2, "cpu", threads=1)
    yield ranks
    assert ranks.error is None
    ranks.close()
    assert [process.poll() for process in ranks.processes] == [0]


@pytest.fixture
def make_split_core(ranks: Ranks, tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Core]:
    """Cores over the two halves of a model."""

    def make(weights: Any, blocks: int = 200, cost: int = 0, **limits: Any) -> Core:
        weights.save_pretrained(tmp_path)
        model = LeadingModel.lead(ranks, str(tmp_path), dtype="float32", device="cpu")
        chosen = Limits(**({"block_size": 8, "prefill_chunk": 19} | limits))
        return Core(model, tokenizer, blocks, chosen, RunOptions(CutCost(cost)))

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_greedy_text_over_a_tree_of_prompts_in_chunks(
    make_split_core: Callable[..., Core], make_core: Callable[..., Core], name: str
):
    kind, changes = CHANGES[name]
    weights = make_weights(kind, **changes)
    windows = {"windows": (14,)} if changes.get("sliding_window") else {}  # too few for all tokens
    split, whole = make_split_core(weights, **windows), make_core(other=weights, prefill_chunk=19)
    texts = prompts(7, 30, 20)
    check(split, weights, texts, 12)
    texts = texts[::2] + prompts(4, 30, 20, seed=1)  # some of which are cached
    for core in (split, whole):
        core.run(requests := [greedy(text, 12) for text in texts])
        core.scheduler.check_integrity()
        if core is split:
            told = [request.sequences[0].tokens for request in requests]
    assert told == [request.sequences[0].tokens for request in requests]
    halves = 1 if "not-split" in name else 2
    assert split.model.shape.heads * halves == whole.model.shape.heads
    assert split.model.shape.kv_heads == max(1, whole.model.shape.kv_heads // halves)  # latents are whole in each
    assert split.model.cache.shape[2] == split.model.shape.kv_heads
    assert split.model.vocabulary == whole.model.vocabulary


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm4v-moe", "mistral4"])
def test_the_text_half_of_a_whole_model_is_split(make_split_core: Callable[..., Core], name: str):
    made = whole(name)
    core = make_split_core(made)
    assert core.model.shape.heads == SIZES["num_attention_heads"] // 2
    check_at_once(core, made, [[max(token, 9) for token in text] for text in prompts(4, 30, 20, seed=3)], 6)


@pytest.mark.slow
def test_samples_and_log_probabilities_are_those_of_one_process(
    make_split_core: Callable[..., Core], make_core: Callable[..., Core], weights: Any
):
    params = SamplingParams(temperature=0.8, seed=7, max_tokens=10, ignore_eos=True, logprobs=2)
    found: list[list[list[int]]] = []
    logprobs: list[list[float]] = []
    for core in (make_split_core(weights), make_core(prefill_chunk=19)):
        requests = [Request(list(prompt), params, n=5) for prompt in prompts(3, 21, 9)]
        outputs = core.run(requests)
        found.append([sequence.tokens for request in requests for sequence in request.sequences])
        outputs.sort(key=lambda output: (requests.index(output.request), output.index))
        logprobs.append([entry.logprob for output in outputs for entry in output.logprobs])
    assert found[0] == found[1]
    assert len(logprobs[0]) == 150
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)


@pytest.mark.slow
def test_a_cache_too_small_preempts_and_an_abort_frees(make_split_core: Callable[..., Core], weights: Any):
    core = make_split_core(weights, blocks=24, prefill_chunk=64)
    core.scheduler._typical_output = 0.0  # admit as if answers were short, so that growth must preempt
    requests = [greedy(prompt, 40) for prompt in prompts(8, 16, 20, seed=5)]
    for request in requests:
        core.submit(request)
    for _ in range(6):
        core.step()
    aborted = next(r for r in requests if r.sequences[0].state is State.RUNNING)
    core.abort(aborted)
    core.run([])
    core.scheduler.check_integrity()
    assert core.scheduler.counters.preemptions > 0
    for request in requests:
        if request is not aborted:
            assert request.sequences[0].tokens[len(request.prompt) :] == generate(weights, request.prompt, 40)


@pytest.mark.slow
def test_branches_copy_the_block_they_share_in_every_process(
    make_split_core: Callable[..., Core], ranks: Ranks, weights: Any, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    tell = ranks.tell
    monkeypatch.setattr(ranks, "tell", lambda what, *rest: (told.append(what), tell(what, *rest)))
    core = make_split_core(weights)
    first = greedy(list(range(10, 30)), 9)
    core.run([first])
    turns = [greedy([*first.sequences[0].tokens, branch], 9) for branch in range(40, 44)]
    core.run(turns)
    assert "copy" in told
    for turn in turns:
        assert turn.sequences[0].tokens[len(turn.prompt) :] == generate(weights, turn.prompt, 9)
    core.model.scrub(list(range(200 * 8)))  # all zero again, in both
    core.reset()
    check(core, weights, [turns[0].prompt], 9)
    assert told.count("allocate") == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gptq", "fp8-blocks"])
def test_each_process_dequantises_its_part(ranks: Ranks, tokenizer: Tokenizer, tmp_path: Path, form: str):
    weights = checkpoint(tmp_path, make_weights(), *FORMS[form])
    model = LeadingModel.lead(ranks, str(tmp_path), dtype="float32", device="cpu")
    core = Core(model, tokenizer, 200, Limits(8, prefill_chunk=19), RunOptions(CutCost(0)))
    check(core, weights, prompts(4, 30, 20), 8)
    held = [
        weight
        for name, weight in model._inner.named_parameters()
        if name.endswith(("o_proj.weight", "down_proj.weight"))
    ]
    assert len(held) == 4
    assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in held), "parts, not the whole"


@pytest.mark.slow
def test_each_process_dequantises_its_part_of_experts(ranks: Ranks, tokenizer: Tokenizer, tmp_path: Path):
    weights = checkpoint(tmp_path, make_weights("Qwen3Moe", **EXPERTS), *FORMS["fp8-blocks"])
    model = LeadingModel.lead(ranks, str(tmp_path), dtype="float32", device="cpu")
    core = Core(model, tokenizer, 200, Limits(8, prefill_chunk=19), RunOptions(CutCost(0)))
    check(core, weights, prompts(4, 30, 20), 8)
    held = {name: weight for name, weight in model._inner.named_parameters() if ".experts." in name}
    assert {tuple(weight.shape) for weight in held.values()} == {(4, 32, 64), (4, 64, 16)}
    assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in held.values()), "parts, not the whole"


@pytest.mark.slow
def test_a_cache_of_8_bits_in_two_processes_errs_as_in_one(
    ranks: Ranks, tokenizer: Tokenizer, tmp_path: Path, make_core: Callable[..., Core], weights: Any
):
    """Each has scales for its own heads."""
    weights.save_pretrained(tmp_path)
    prompt = prompts(1, 30, 20)[0]
    found: list[torch.Tensor] = []
    model = LeadingModel.lead(ranks, str(tmp_path), dtype="float32", device="cpu", cache="fp8_e4m3")
    split = Core(model, tokenizer, 200, Limits(8, prefill_chunk=64), RunOptions(CutCost(0)))
    for core in (split, make_core(cache="fp8_e4m3"), make_core()):
        params = SamplingParams(temperature=0.0, max_tokens=1, logprobs=core.model.vocabulary)
        core.run([Request(list(range(9, 60)), SamplingParams(max_tokens=1))])  # cached keys are read, not new ones
        (entry,) = [each for out in core.run([Request([*range(9, 60), *prompt], params)]) for each in out.logprobs]
        found.append(torch.tensor([value for _, value in sorted(entry.top)]))
    errors = [float((each - found[2]).square().mean().sqrt() / found[2].std()) for each in found[:2]]
    assert 0 < errors[0] < 2 * errors[1]


def test_trials_at_load_wait_for_nobody(monkeypatch: pytest.MonkeyPatch):
    """Each process decides by its own clock what to try, so sums within trials would wait for each other."""
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    summed: list[torch.Tensor] = []
    monkeypatch.setattr("torch.distributed.all_reduce", summed.append)
    weight = torch.nn.Parameter(torch.ones(3, 2), requires_grad=False)
    with alone():
        assert SummedLinear(weight, None)(torch.ones(1, 2)).tolist() == [[2.0, 2.0, 2.0]]
        assert GatheredLinear(weight, None)(torch.ones(1, 2)).shape == (1, 6)
    assert not summed
    SummedLinear(weight, None)(torch.ones(1, 2))
    assert len(summed) == 1


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_step_survives_the_way_to_another_process(make_core: Callable[..., Core]):
    core = make_core()
    steps: list[StepInput] = []
    forward = core.model.forward

    def note(step: StepInput) -> Any:
        steps.append(step)
        return forward(step)

    core.model.forward = note  # type: ignore[method-assign]
    core.run([Request(prompt, SamplingParams(max_tokens=4), n=2) for prompt in prompts(5, 30, 20)])
    for step in steps:
        what, found = loads(dumps(("forward", step)), torch.device("cpu"))
        assert what == "forward"
        for name in ("tokens", "positions", "slots", "sampled"):
            assert torch.equal(getattr(found, name), getattr(step, name))
        for sent, own in zip(found.works, step.works, strict=True):
            for field in fields(own):
                assert getattr(sent, field.name) == getattr(own, field.name)
            assert str(sent.plan) == str(own.plan)


def test_work_for_triton_travels_without_its_scratch():
    items = [Item(0, 4, [3, 5], 0, 14), Item(1, 2, [7], 0, 3)]
    work = WorkBuffers.of(items, 4, Heads(2, 1, 16, 4), 8)
    data = dumps((work,))
    (found,) = loads(data, torch.device("cpu"))
    for name in ("count", "tiles", "blocks", "starts", "slots"):
        assert torch.equal(getattr(found, name), getattr(work, name))
    assert found.scratch.partials.shape == work.scratch.partials.shape
    assert len(data) < 4000


# -- refusals ----------------------------------------------------------------------------------------------------------


def _planned() -> Any:
    config = make_config("Llama")
    config.base_model_tp_plan = {"layers.*.mlp.up_proj": "sequence_parallel"}
    return config


@pytest.mark.parametrize(
    ("config", "processes", "reason"),
    [
        (make_config("Youtu", **LATENT), 3, "4 attention heads and 4 key/value heads can't be split evenly over 3"),
        (make_config("Llama"), 4, "4 attention heads and 2 key/value heads can't be split evenly over 4"),
        (make_config("Qwen3", num_attention_heads=6), 4, "6 attention heads"),
        (transformers.GPT2Config(), 2, "no tensor-parallel plan for gpt2 models"),
        (transformers.FalconH1Config(), 2, "falcon_h1 models splits embed_tokens alone"),
        (transformers.Lfm2Config(), 2, "lfm2 models splits embed_tokens alone"),
        (transformers.Zamba2Config(), 2, "no tensor-parallel plan for zamba2 models"),
        (transformers.AutoConfig.for_model("sarvam_moe"), 2, "queries, keys and values in one weight"),
        (make_config("Llama", quantization_config={"quant_method": "torchao"}), 2, "torchao rounded"),
        (_planned(), 2, "style sequence_parallel, which is not tested here"),
    ],
    ids=[
        "latents",
        "kv-heads",
        "heads",
        "no-plan",
        "falcon-h1",
        "lfm2",
        "zamba2",
        "merged",
        "quantised",
        "style",
    ],
)
def test_what_cannot_be_split_is_refused(config: Any, processes: int, reason: str):
    with pytest.raises(LoadError, match=reason):
        check_split(config, processes)


def test_weights_to_be_quantised_are_refused():
    with pytest.raises(LoadError, match="--quantization or torchao rounded can't be split"):
        check_split(make_config("Llama"), 2, "int8")


def test_heads_that_the_plan_does_not_split_need_not_divide():
    check_split(make_config("Olmo2"), 4)


def test_the_command_refuses_before_it_starts_a_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    make_weights().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    monkeypatch.setattr("engine.server.process.Ranks", None)
    assert main(["--model", str(tmp_path), "--port", "0", "--tensor-parallel", "4"]) == 1
    assert "2 key/value heads can't be split evenly over 4" in capsys.readouterr().err


def test_the_batch_invariant_mode_is_not_split(capsys: pytest.CaptureFixture[str]):
    assert main(["--port", "0", "--tensor-parallel", "2", "--batch-invariant"]) == 1
    assert "leave --tensor-parallel out" in capsys.readouterr().err


def test_weights_that_stay_quantised_are_not_split(capsys: pytest.CaptureFixture[str]):
    assert main(["--port", "0", "--tensor-parallel", "2", "--weights", "native"]) == 1
    assert "leave --weights native or --tensor-parallel out" in capsys.readouterr().err


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(LoadError, match="needs 4 GPUs, one for each process, but there are 2"):
        Ranks(4, "cuda")
