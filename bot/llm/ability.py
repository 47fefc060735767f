"""What a model is able to, as an examination found it (`bot.llm.examination`), kept by model and endpoint."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from bot.atomic import write_text
from bot.records import Record

EditFormat = Literal["search_replace", "define", "file", "diff"]
FORMATS: tuple[EditFormat, ...] = get_args(EditFormat)
TAGS: dict[EditFormat, str] = {"search_replace": "edit", "define": "define", "file": "file", "diff": "diff"}
# Among equals the first: of formats without a mistake the cheapest, else the one that asks for the least copying.
_PREFERRED: tuple[EditFormat, ...] = ("search_replace", "define", "diff", "file")
_PREFERRED_IF_WEAK: tuple[EditFormat, ...] = ("define", "search_replace", "diff", "file")
_USABLE = 0.5  # of the edits in whole files, which cost the most tokens: else they are not asked for
_CORRECTED = 0.6  # of the mistakes that are shown: below it a failed attempt is drawn anew


class Share(Record):
    """How many of the tries were right."""

    right: int = 0
    of: int = 0

    @property
    def value(self) -> float:
        return self.right / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.right} of {self.of}"


class Ability(Record):
    """What was found. Shares without tries say nothing."""

    edits: dict[EditFormat, Share]
    tests: Share = Share()  # scripts that test what they should
    corrections: Share = Share()  # mistakes that were corrected when they were shown
    context_tokens: int = 0  # of files at most among which the right lines were found; 0: as many as were tried
    unanswered: int = 0  # calls without an answer
    source: Literal["examined", "published"] = "examined"

    @property
    def formats(self) -> tuple[EditFormat, ...]:
        """Formats in which at least one edit was right, the best first."""
        weak = all(share.right < share.of for share in self.edits.values())
        order = _PREFERRED_IF_WEAK if weak else _PREFERRED
        able = [form for form in order if self.edits.get(form, Share()).right]
        able = [form for form in able if form != "file" or self._files_pay]
        return tuple(sorted(able, key=lambda form: -self.edits[form].value))

    @property
    def _files_pay(self) -> bool:
        others = max((share.value for form, share in self.edits.items() if form != "file"), default=0.0)
        return self.edits["file"].value >= _USABLE and others < self.edits["file"].value

    @property
    def corrects(self) -> bool | None:
        """Whether failed attempts are corrected in dialogue; None where nothing is known."""
        return self.corrections.value >= _CORRECTED if self.corrections.of else None


def abilities_folder() -> Path:
    """Where results are kept: below `XDG_CACHE_HOME`, as other things that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troop" / "abilities"


class AbilityCache:
    """Results by model, endpoint and version of the examination. A folder that can't be used is as an empty one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, model: str, endpoint: str, version: str) -> Path:
        digest = hashlib.sha256(f"{version}\0{endpoint}\0{model}".encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest[:32]}.json"

    def load(self, model: str, endpoint: str, version: str) -> Ability | None:
        try:
            return Ability.model_validate_json(self._path(model, endpoint, version).read_bytes())
        except (OSError, ValidationError, ValueError):
            return None

    def store(self, model: str, endpoint: str, version: str, ability: Ability) -> None:
        path = self._path(model, endpoint, version)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, ability.model_dump_json())
