"""Names to detectors: the three built in, and the checkpoints that `models/registry.json` lists."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analysis import __version__
from analysis.detectors.gradient import GradientEdges
from analysis.detectors.onnx import OnnxDetector
from analysis.detectors.profile import IntensityProfile
from analysis.detectors.protocol import Detector
from analysis.detectors.template import TemplateCorrelation
from analysis.errors import ModelError, ModelNotFound
from analysis.files import read_file
from analysis.settings import shown

MODELS_DIR_VARIABLE: Final = "LEGLENGTH_MODELS_DIR"
_SHIPPED: Final = Path(__file__).parents[2] / "models"
_REGISTRY_FILE: Final = "registry.json"
_MOST_REGISTRY_BYTES: Final = 1 << 20
_LONGEST_NAME: Final = 200
_VERSION: Final = r"[A-Za-z0-9][A-Za-z0-9._+\-]{0,47}"

BUILT_IN: Final[dict[str, Callable[[], Detector]]] = {
    "intensity_profile": IntensityProfile,
    "gradient_edges": GradientEdges,
    "template_correlation": TemplateCorrelation,
}


def load(names: Sequence[str], models_dir: Path | str | None = None) -> list[Detector]:
    """Build the named detectors, in order.

    Checkpoints come from `models_dir`, else $LEGLENGTH_MODELS_DIR, else the repository's models/.
    Raises `ModelError` before any model is loaded when one is unknown or has no checkpoint.
    """
    folder = Path(models_dir or os.environ.get(MODELS_DIR_VARIABLE) or _SHIPPED)
    listed = _read_registry(folder)
    for name in names:
        _require(name, folder, listed)
    return [_build(name, folder, listed) for name in names]


def _read_registry(folder: Path) -> dict[str, dict[str, Any]]:
    """The listed checkpoints; a folder without its own list is read with the shipped one."""
    path = folder / _REGISTRY_FILE
    if not path.exists():
        path = _SHIPPED / _REGISTRY_FILE
    try:
        models = json.loads(read_file(path, _MOST_REGISTRY_BYTES).decode("utf-8-sig"))["models"]
        return {name: _checked_entry(entry) for name, entry in models.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: not a model registry ({type(error).__name__})") from None


def _checked_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's file, checksum and version; raises what `_read_registry` makes one line of, not a later crash."""
    file, sha256 = entry["file"], entry["sha256"]
    if not isinstance(file, str) or not file.isprintable() or len(file.encode()) > _LONGEST_NAME:
        raise ValueError
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError
    version = entry.get("version")
    if version is not None and not re.fullmatch(_VERSION, version):
        raise ValueError
    return {"file": file, "sha256": sha256, "version": version}


def _require(name: str, folder: Path, listed: dict[str, dict[str, Any]]) -> None:
    if name in BUILT_IN:
        return
    if name not in listed:
        near = difflib.get_close_matches(name, [*BUILT_IN, *listed], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        known = f"built in: {', '.join(BUILT_IN)}; listed: {', '.join(map(shown, sorted(listed))) or 'none'}"
        raise ModelNotFound(f"unknown model '{shown(name)}'; {hint}{known}")
    path = folder / listed[name]["file"]
    if not path.is_file():
        message = f"the model {name!r} has no checkpoint: {path} not found; built in: {', '.join(BUILT_IN)}"
        raise ModelNotFound(message)


def _build(name: str, folder: Path, listed: dict[str, dict[str, Any]]) -> Detector:
    if name in BUILT_IN:
        return BUILT_IN[name]()
    entry = listed[name]
    return OnnxDetector(name, folder / entry["file"], entry["sha256"], entry["version"])


def identities(detectors: Sequence[Detector]) -> dict[str, dict[str, str]]:
    """Each model's `version` and its checkpoint's `digest`, as far as the registry lists them, by the model's name.

    A built-in one has the application's version.
    """
    found = {}
    for detector in detectors:
        known: dict[str, str | None] = {"version": __version__}
        if isinstance(detector, OnnxDetector):
            known = {"version": detector.version, "digest": detector.sha256}
        found[detector.name] = {key: value for key, value in known.items() if value is not None}
    return found
