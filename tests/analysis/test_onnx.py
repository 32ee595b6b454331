"""Trained detectors: a small ONNX model stands in for a checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.detectors import registry
from analysis.errors import ModelChecksumMismatch, ModelError, ModelNotFound, RuntimeMissing
from analysis.landmarks import Spacing
from analysis.pipeline import load_detectors, model_identities
from analysis.settings import AnalysisSettings

LISTED = (
    "resnet101",
    "resnext101_32x8d",
    "densenet201",
    "vit_l_16",
    "efficientnet_v2_m",
    "mobilenet_v3_large",
    "swin_v2_b",
    "convnext_base",
)


def save_model(path: Path, shape: list, outputs: tuple[str, ...] = ("boxes", "labels", "scores")) -> str:
    """A model that always answers with the same two boxes; returns its SHA-256."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, types = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    answers = {
        "boxes": np.array([[10, 20, 30, 40], [50, 60, 70, 100]], dtype=np.float32),
        "labels": np.array([1, 2], dtype=np.int64),
        "scores": np.array([0.9, 0.4], dtype=np.float32),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(answers[name], name)) for name in outputs
    ]
    kinds = {"boxes": types.FLOAT, "labels": types.INT64, "scores": types.FLOAT}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", types.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kinds[name], answers[name].shape) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def list_model(folder: Path, name: str, sha256: str | None) -> None:
    entry = {name: {"file": f"{name}.onnx", "sha256": sha256}}
    (folder / "registry.json").write_text(json.dumps({"version": 1, "models": entry}))


@pytest.mark.parametrize(
    ("shape", "image", "first_box"),
    [
        ([3, "h", "w"], (200, 100), [10, 20, 30, 40]),
        ([1, 3, "h", "w"], (200, 100), [10, 20, 30, 40]),
        ([1, 1, 100, 100], (200, 400), [40, 40, 120, 80]),
        ([3, "h", "w"], (2666, 1000), [20, 40, 60, 80]),
    ],
    ids=["torchvision", "batched", "fixed size", "larger than the model's long side"],
)
def test_boxes_come_back_in_the_pixels_of_the_image(tmp_path, shape, image, first_box):
    list_model(tmp_path, "resnet101", save_model(tmp_path / "resnet101.onnx", shape))
    (detector,) = registry.load(["resnet101"], tmp_path)
    found = detector.detect(np.random.default_rng(0).random(image, dtype=np.float32), Spacing(1, 1))
    assert found.boxes[0] == pytest.approx(first_box, rel=0.01)
    assert found.labels.tolist() == [1, 2]
    assert found.scores == pytest.approx([0.9, 0.4])


def test_a_checkpoint_other_than_the_listed_one_is_not_loaded(tmp_path):
    save_model(tmp_path / "resnet101.onnx", [3, "h", "w"])
    list_model(tmp_path, "resnet101", "0" * 64)
    with pytest.raises(ModelChecksumMismatch, match=r"sha256 is [0-9a-f]{64}, the registry lists 0{64}"):
        registry.load(["resnet101"], tmp_path)


def test_a_checkpoint_without_a_listed_checksum_runs_with_a_warning(tmp_path, caplog, monkeypatch):
    save_model(tmp_path / "resnet101.onnx", [3, "h", "w"])
    monkeypatch.setenv("LEGLENGTH_MODELS_DIR", str(tmp_path))
    with caplog.at_level(logging.WARNING, "analysis"):
        (detector,) = registry.load(["resnet101"])
    assert detector.name == "resnet101"
    assert "resnet101.onnx runs unverified" in caplog.text


def test_a_model_without_checkpoint_names_the_file_and_the_built_in_ones(tmp_path):
    with pytest.raises(ModelNotFound) as caught:
        registry.load(["gradient_edges", "resnet101"], tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "resnet101.onnx") in message
    assert all(name in message for name in registry.BUILT_IN)
    assert "\n" not in message


def test_an_unknown_model_lists_the_names():
    with pytest.raises(ModelNotFound) as caught:
        load_detectors(AnalysisSettings(models=("resnet10",)))
    message = str(caught.value)
    assert "did you mean 'resnet101'?" in message
    assert all(name in message for name in (*registry.BUILT_IN, *LISTED))


def test_a_model_name_cannot_leave_the_models_folder(tmp_path):
    with pytest.raises(ModelNotFound, match="unknown model"):
        registry.load(["../../etc/passwd"], tmp_path)


def test_the_shipped_registry_lists_the_published_backbones_without_checkpoints():
    listed = json.loads((Path(registry.__file__).parents[2] / "models" / "registry.json").read_text())["models"]
    assert tuple(listed) == LISTED
    assert all(entry == {"file": f"{name}.onnx", "sha256": None} for name, entry in listed.items())


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    list_model(tmp_path, "resnet101", save_model(tmp_path / "resnet101.onnx", [3, "h", "w"]))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing, match=r"leglength-monitoring\[onnx\]"):
        registry.load(["resnet101"], tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_one_line(tmp_path, content):
    pytest.importorskip("onnxruntime")
    (tmp_path / "resnet101.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not a model that onnxruntime can load") as caught:
        registry.load(["resnet101"], tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_with_other_outputs_is_refused(tmp_path):
    save_model(tmp_path / "resnet101.onnx", [3, "h", "w"], outputs=("boxes",))
    with pytest.raises(ModelError, match="expected the outputs"):
        registry.load(["resnet101"], tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"models": {"a": {}}}', '{"models": []}', '{"models": {"a": 1}}'])
def test_a_broken_registry_is_one_line(tmp_path, content):
    (tmp_path / "registry.json").write_text(content)
    with pytest.raises(ModelError, match="not a model registry"):
        registry.load(["a"], tmp_path)


def test_the_built_in_detectors_need_no_registry_entry_and_no_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert [detector.name for detector in load_detectors(AnalysisSettings(), tmp_path)] == list(registry.BUILT_IN)


MALFORMED_REGISTRIES = {
    "nested too deeply": "[" * 100_000,
    "not UTF-8": b"\xff\xfe\x00",
    "a list": "[]",
    "no models": "{}",
    "models are a list": '{"models": []}',
    "an entry is text": '{"models": {"a": "a.onnx"}}',
    "an entry has no file": '{"models": {"a": {"sha256": null}}}',
    "a file is a number": '{"models": {"a": {"file": 7, "sha256": null}}}',
    "a file has too long a name": json.dumps({"models": {"a": {"file": "x" * 4000, "sha256": None}}}),
    "a file's name has a zero": '{"models": {"a": {"file": "a\\u0000", "sha256": null}}}',
    "a checksum is a number": '{"models": {"a": {"file": "a.onnx", "sha256": 7}}}',
    "a checksum is cut": '{"models": {"a": {"file": "a.onnx", "sha256": "abc"}}}',
    "too many digits": '{"models": {"a": {"file": "a.onnx", "sha256": ' + "9" * 5000 + "}}}",
}


@pytest.mark.parametrize("content", MALFORMED_REGISTRIES.values(), ids=MALFORMED_REGISTRIES)
def test_a_malformed_registry_is_one_line(tmp_path: Path, content: str | bytes):
    (tmp_path / "registry.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        registry.load(["a"], tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'registry.json'}: not a model registry (")
    assert "\n" not in str(caught.value)


def test_a_registry_that_is_a_pipe_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "registry.json")
    with pytest.raises(ModelError, match="not a model registry"):
        registry.load(["a"], tmp_path)


def test_an_unknown_models_name_stays_on_its_line(tmp_path: Path):
    with pytest.raises(ModelNotFound) as caught:
        registry.load(["a\nERROR forged" + "x" * 5000], tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_models_tell_which_they_are(tmp_path):
    digest = save_model(tmp_path / "listed.onnx", [3, "h", "w"])
    save_model(tmp_path / "bare.onnx", [3, "h", "w"])
    listed = {"listed": {"file": "listed.onnx", "sha256": digest, "version": "3.1"}}
    entries = {**listed, "bare": {"file": "bare.onnx", "sha256": None}}
    (tmp_path / "registry.json").write_text(json.dumps({"version": 1, "models": entries}))
    detectors = registry.load(["listed", "bare", "gradient_edges"], tmp_path)
    assert model_identities(detectors) == {
        "listed": {"version": "3.1", "digest": digest}, "bare": {}, "gradient_edges": {"version": analysis.__version__},
    }  # fmt: skip


@pytest.mark.parametrize("version", [7, "", "a b", "1/2", "x" * 49, ["1"]])
def test_a_version_that_is_none_makes_the_registry_none(tmp_path, version):
    entry = {"mine": {"file": "mine.onnx", "sha256": None, "version": version}}
    (tmp_path / "registry.json").write_text(json.dumps({"version": 1, "models": entry}))
    with pytest.raises(ModelError, match="not a model registry"):
        registry.load(["mine"], tmp_path)
