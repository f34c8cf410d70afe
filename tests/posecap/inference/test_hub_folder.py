"""Folders in the hub's format, before any model is made of them."""

import json
import struct
from pathlib import Path

import pytest

from posecap.inference.hub_folder import check_weights, files_of, find_folder, is_path
from posecap.models import MissingWeightsError
from posecap.weights.checkpoints import MARK, CheckpointError, RandomWeightsError

pytest.importorskip("safetensors", reason="needs posecap[caption]")


def tensors_file(path: Path, metadata: dict[str, str] | None = None) -> None:
    """One tensor of two float32, as safetensors lays it out: length of the header, header, bytes."""
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    packed = json.dumps({"__metadata__": metadata, **header} if metadata else header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + struct.pack("<2f", 1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    tensors_file(made / "model.safetensors")
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/data/model", True), ("./model", True), ("~/model", True), ("makers/model", False), ("model", False)],
)
def test_places_and_names(text, expected):
    assert is_path(text) is expected


def test_a_folder_is_found_by_its_place_or_relative_to_here(folder, monkeypatch):
    assert find_folder(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert find_folder("model") == Path("model")
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_folder("~/model") == folder
    with pytest.raises(
        MissingWeightsError, match=r"no checkpoint at '\./other'.*hf download NAME --local-dir \./other"
    ):
        find_folder("./other")


def test_only_files_that_shape_the_answer_count(folder):
    for name in ("README.md", "picture.png", "tokenizer.model", ".gitattributes", "chat_template.jinja"):
        (folder / name).write_text("x")
    (folder / "more.json").mkdir()
    names = [path.name for path in files_of(folder)]
    assert names == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.model"]


def test_a_sound_folder_passes(folder):
    check_weights(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    check_weights(folder)


@pytest.mark.parametrize("cut", [1, 8, 60])
def test_a_file_that_is_cut_off(folder, cut):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-cut])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is cut off"):
        check_weights(folder)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {"w": 3}}', "[", "[" * 100_000])
def test_an_index_that_makes_no_sense(folder, index):
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        check_weights(folder)


def test_the_mark_of_random_weights(folder, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    tensors_file(folder / "model.safetensors", {"posecap_random_weights": "true"})
    with pytest.raises(RandomWeightsError, match=r"model\.safetensors"):
        check_weights(folder)
    tensors_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({MARK: True}))
    with pytest.raises(RandomWeightsError):
        check_weights(folder)
