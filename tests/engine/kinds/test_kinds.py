"""`docs/models.md` is what `python -m tests.engine.kinds` writes: its names, and a few of its kinds tried again."""

import pytest
import transformers

from engine.text.tokenizer import Tokenizer
from tests.engine.kinds.attempt import Outcome, attempt
from tests.engine.kinds.formats import section
from tests.engine.kinds.table import PAGE, page, read
from tests.engine.kinds.tiny import KINDS

VERSION, STATUS = read()


@pytest.mark.skipif(transformers.__version__ != VERSION, reason="the page is about another version of transformers")
def test_the_page_has_every_kind():
    assert sorted(STATUS) == KINDS


def test_nothing_on_the_page_is_wrong():
    found = [outcome.status for outcome in STATUS.values()]
    assert "failed" not in found
    assert found.count("served") >= 170


def test_the_page_says_how_each_format_is_multiplied():
    assert PAGE.read_text().endswith(section())


NEW = ["gpt_oss", "gemma2", "llama4_text", "deepseek_v3", "mimo_v2_flash", "gemma4_text", "granitemoehybrid", "bart"]
MENDED = ["afmoe", "jetmoe", "roberta"]
STATES = ["mamba", "qwen3_next", "kimi_linear", "nemotron_h", "jamba"]
INDEXED = ["deepseek_v32", "glm_moe_dsa", "axk2", "hy_v4", "dots3_note", "qwen4_exp", "deepseek_v4"]
REFUSED = ["falcon", "mpt", "prophetnet", "xlnet"]


@pytest.mark.parametrize("kind", [*NEW, *MENDED, *STATES, *INDEXED, *REFUSED])
def test_kinds_again(kind: str, tokenizer: Tokenizer):
    """New features, layers of different shapes, positions of their own, and refusals."""
    if kind not in STATUS:
        pytest.skip("not in this version of transformers")
    assert attempt(kind, tokenizer) == STATUS[kind]


def test_a_page_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path):
    outcomes = {"a": Outcome("served"), "b-c": Outcome("refused", "x | y"), "d.e": Outcome("untried", "`f` fails")}
    (tmp_path / "models.md").write_text(page(outcomes))
    monkeypatch.setattr("tests.engine.kinds.table.PAGE", tmp_path / "models.md")
    assert read() == (transformers.__version__, outcomes)
