"""A trained detector run by onnxruntime: the usual torchvision detection outputs.

The model takes one image as [1 or 3, H, W] or [1, 1 or 3, H, W] floats of 0 to 1 and returns
`boxes` [N, 4] in its input's pixels, `labels` [N] and `scores` [N], by name or in that order.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import ndimage

from analysis.detectors.protocol import Detections, Image
from analysis.errors import ModelChecksumMismatch, ModelError, RuntimeMissing
from analysis.landmarks import Spacing

_LONG_SIDE: Final = 1333
"""The side that torchvision's detection transform brings an image down to."""
_LOG = logging.getLogger("analysis")


def verify_checksum(path: Path, sha256: str | None) -> None:
    """Compare a checkpoint with the registry.

    Raises `ModelChecksumMismatch`. Without a listed checksum the file is allowed, for a site's
    own training, and that is said in the log.
    """
    if sha256 is None:
        _LOG.warning("the checkpoint %s runs unverified: the registry lists no sha256", path.name)
        return
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None
    if actual != sha256.lower():
        message = f"{path}: sha256 is {actual}, the registry lists {sha256.lower()}; not loaded"
        raise ModelChecksumMismatch(message)


class OnnxDetector:
    """One checkpoint; built once, used for every image."""

    def __init__(self, name: str, path: Path, sha256: str | None, version: str | None = None) -> None:
        """Raises `ModelError` when the file isn't the listed one or can't be run."""
        self.name = name
        self.sha256, self.version = sha256, version
        verify_checksum(path, sha256)
        self._session = _open_session(name, path)
        self._input = self._session.get_inputs()[0]

    def detect(self, image: Image, spacing: Spacing) -> Detections:  # noqa: ARG002 - the protocol's
        """Run the model; boxes come back in the image's own pixels."""
        height, width = self._input_size(image)
        tensor = self._tensor(_resized(_unit_range(image), height, width))
        outputs = self._session.run(None, {self._input.name: tensor})
        return self._detections(outputs, image.shape[1] / width, image.shape[0] / height)

    def _input_size(self, image: Image) -> tuple[int, int]:
        """The height and width that the model fixes, else the image's brought down."""
        height, width = self._input.shape[-2:]
        scale = min(1.0, _LONG_SIDE / max(image.shape))
        free = [max(1, round(side * scale)) for side in image.shape]
        return (
            height if isinstance(height, int) else free[0],
            width if isinstance(width, int) else free[1],
        )

    def _tensor(self, image: Image) -> Image:
        channels = self._input.shape[-3]
        tensor = np.repeat(image[None], channels if isinstance(channels, int) else 3, axis=0)
        return tensor[None] if len(self._input.shape) == 4 else tensor  # 4: with a batch axis

    def _detections(self, outputs: list[Any], scale_x: float, scale_y: float) -> Detections:
        boxes, labels, scores = (np.asarray(output) for output in self._in_order(outputs))
        scaled = boxes.reshape(-1, 4).astype(np.float64) * (scale_x, scale_y, scale_x, scale_y)
        return Detections(scaled, labels.reshape(-1).astype(np.int64), scores.reshape(-1).astype(np.float64))

    def _in_order(self, outputs: list[Any]) -> list[Any]:
        named = dict(zip((output.name for output in self._session.get_outputs()), outputs, strict=True))
        wanted = ("boxes", "labels", "scores")
        return [named[name] for name in wanted] if set(wanted) <= set(named) else outputs[:3]


def _open_session(name: str, path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        message = f"the model {name!r} needs onnxruntime: pip install 'leglength-monitoring[onnx]'"
        raise RuntimeMissing(message) from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise ModelError(f"{path}: not a model that onnxruntime can load ({type(error).__name__})") from None
    if len(session.get_outputs()) < 3:  # boxes, labels, scores
        raise ModelError(f"{path}: expected the outputs boxes, labels and scores")
    return session


def _unit_range(image: Image) -> Image:
    low, high = float(image.min()), float(image.max())
    scaled: Image = ((image - low) / max(high - low, 1e-6)).astype(np.float32)
    return scaled


def _resized(image: Image, height: int, width: int) -> Image:
    if image.shape == (height, width):
        return image
    zoom = (height / image.shape[0], width / image.shape[1])
    resized: Image = ndimage.zoom(image, zoom, order=1, grid_mode=True, mode="nearest").astype(np.float32)
    return resized
