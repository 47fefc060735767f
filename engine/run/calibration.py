"""What attention costs on this device, measured once and remembered in a file per user.

The file is JSON: device name, then shape of the heads, then constants (`kernels.tree_attention.cost.MeasuredCost`). It
lies in the user's cache folder unless `TROOP_ENGINE_CALIBRATION` names another place. Losing it costs a second of
measuring at the next start.
"""

import dataclasses
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kernels.tree_attention.cost import MeasuredCost
from kernels.tree_attention.heads import Heads

logger = logging.getLogger(__name__)

ENVIRONMENT = "TROOP_ENGINE_CALIBRATION"
VERSION = 4  # of the measurement; constants of other versions are ignored


def default_file() -> Path:
    """Where constants are kept by default."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "troop" / "attention.json"


def device_name(device: torch.device) -> str:
    """Name under which a device's constants are kept; a processor's holds the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads"


def shape_name(backend: str, heads: Heads, dtype: torch.dtype, block_size: int) -> str:
    """What else the constants depend on."""
    kind = str(dtype).removeprefix("torch.")
    return f"{backend}, {heads.query} of {heads.kv} heads of {heads.dim}, {kind}, blocks of {block_size}"


def measured_cost(
    file: Path, device: str, shape: str, measure: Callable[[], MeasuredCost], again: bool
) -> MeasuredCost:
    """Constants from a file, or from a measurement that is then added to it.

    Args:
        file: need not exist; one that can't be read is replaced; if it can't be written, the constants are not kept.
        device, shape: see `device_name`, `shape_name`.
        measure: takes about a second.
        again: measure whatever the file says.
    """
    key = f"{shape}, version {VERSION}"
    known = _read(file)
    if not again:
        try:
            return MeasuredCost(**known[device][key])
        except (KeyError, TypeError):  # not measured yet, or not by this version
            pass
    found = measure()
    logger.info("attention on %s, %s: %s", device, shape, found)
    known.setdefault(device, {})[key] = dataclasses.asdict(found)
    try:
        _write(file, known)
    except OSError as error:
        logger.warning("the calibration can't be kept in %s: %s", file, error)
    return found


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("the calibration in %s can't be read; measuring again: %s", file, error)
        return {}
    if isinstance(found, dict) and all(isinstance(shapes, dict) for shapes in found.values()):
        return found
    logger.warning("%s holds no calibration; measuring again", file)
    return {}


def _write(file: Path, known: dict[str, dict[str, Any]]) -> None:
    """Write the file atomically: several engines may start at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as new:
        json.dump(known, new, indent=2)
        new.write("\n")
    Path(new.name).replace(file)
