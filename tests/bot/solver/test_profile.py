import pytest

from bot.settings import SolverSettings
from bot.solver.profile import LISTED, ON_CPU, resolve
from tests.scripted import ScriptedModel


def model(name: str, window: int) -> ScriptedModel:
    return ScriptedModel(lambda key, messages: "", name=name, context_window=window)


@pytest.mark.parametrize(
    ("name", "window", "asked", "profile"),
    [
        ("some-32b", 131_072, "auto", "full"),
        ("some-32b", 4096, "auto", "compact"),
        ("org/Capuchin-6M", 131_072, "auto", "compact"),
        ("capuchin", 2048, "full", "full"),
        ("some-32b", 131_072, "compact", "compact"),
    ],
)
def test_profile(name: str, window: int, asked: str, profile: str) -> None:
    assert resolve(SolverSettings(profile=asked), model(name, window)).profile == profile


def test_compact_replaces_defaults_and_nothing_that_was_set() -> None:
    plain = resolve(SolverSettings(), model("capuchin", 2048)).settings
    assert (plain.temperature, plain.test_calls, plain.output_tokens, plain.trajectories) == (0.6, 5, 400, 10)
    chosen = resolve(SolverSettings(temperature=0.5, test_calls=8), model("capuchin", 2048)).settings
    assert (chosen.temperature, chosen.test_calls, chosen.edit_calls) == (0.5, 8, 6)


def test_full_keeps_the_settings_but_for_what_a_list_of_paths_saves() -> None:
    assert (
        resolve(SolverSettings(), model("m", 131_072)).settings.model_dump() == SolverSettings().model_dump() | LISTED
    )
    whole = SolverSettings(context="read all")
    assert resolve(whole, model("m", 131_072)).settings == whole
    chosen = SolverSettings(context_tokens=50_000, rankings=3)
    kept = resolve(chosen, model("m", 131_072)).settings
    assert (kept.context_tokens, kept.rankings, kept.relevance_max_file_tokens) == (50_000, 3, 3_000)


def test_the_reference_says_what_a_list_of_paths_changes() -> None:
    said = {name: SolverSettings.model_fields[name].description or "" for name in LISTED}
    assert not {name: words for name, words in said.items() if f"{LISTED[name]:,} if listed and not set" not in words}


def test_several_rankings_differ_in_temperature() -> None:
    full, compact = (resolve(SolverSettings(), model(name, 131_072)) for name in ("m", "capuchin"))
    assert len({full.ranking_temperature(number) for number in (1, 2, 3)}) == 3
    assert {compact.ranking_temperature(number) for number in (1, 2, 3)} == {0.0}


def test_on_a_cpu_an_able_model_is_asked_for_less() -> None:
    slow = ScriptedModel(lambda key, messages: "", name="some-1b", on_cpu=True)
    chosen = resolve(SolverSettings(context_tokens=20_000, trajectories=16), slow)
    assert chosen.profile == "full"
    assert chosen.settings.model_dump() == SolverSettings(trajectories=16).model_dump() | ON_CPU | {
        "context_tokens": 20_000
    }
    tiny = ScriptedModel(lambda key, messages: "", name="capuchin", on_cpu=True)
    assert resolve(SolverSettings(), tiny).settings.temperature == 0.6


def test_room_in_the_window() -> None:
    large = resolve(SolverSettings(context="read all"), model("m", 262_144))
    assert (large.reply_tokens(262_144), large.context_tokens(262_144, 500)) == (16_384, 128_000)
    assert (large.reply_tokens(16_384), large.context_tokens(16_384, 500)) == (4096, 16_384 - 2 * 4096 - 500)
    assert large.context_tokens(1000, 5000) == 0
