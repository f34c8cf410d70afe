"""Each in a process of its own: what is imported once stays imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import posecap
from posecap.inference.package_compat import _nms, ensure_torchvision, ensure_ultralytics
from tests.random_weights import ultralytics as random_weights

pytest.importorskip("mmpose")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_mmpose_imports_and_only_nms_works_of_the_operators() -> None:
    said = run("""
        from posecap.inference.package_compat import ensure_mmpose
        ensure_mmpose()
        ensure_mmpose()
        import torch, mmcv.ops, xtcocotools.coco, mmpose.apis
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
        kept = mmcv.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5)[1]
        print(kept.tolist(), xtcocotools.coco.COCO.__name__)
        # Side by side they only touch; with their last pixels counted they share a column of 11 in 121 + 121 - 11.
        beside = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
        scores = torch.tensor([0.5, 0.9])
        print([len(mmcv.ops.nms(beside, scores, 0.04, offset=offset)[1]) for offset in (0, 1)])
        try:
            mmcv.ops.nms_rotated(torch.zeros(1, 5), torch.zeros(1), 0.5)
        except NotImplementedError as error:
            print(error)
    """)
    assert said.splitlines() == [
        "[1, 2] COCO",
        "[2, 1]",
        "mmcv-lite has no compiled operator 'nms_rotated'; install mmcv instead of it",
    ]


def test_nothing_is_replaced_where_nothing_is_missing() -> None:
    said = run("""
        import sys, types
        from posecap.inference.package_compat import _replace_mmcv_operators, _replace_xtcocotools
        for name in ("mmcv", "mmcv._ext", "xtcocotools", "xtcocotools._mask"):
            sys.modules[name] = types.ModuleType(name)
        before = dict(sys.modules)
        _replace_xtcocotools()
        _replace_mmcv_operators()
        print(all(sys.modules[name] is module for name, module in before.items()))
    """)
    assert said == "True"


@pytest.mark.slow
def test_a_missing_package_says_what_to_install() -> None:
    said = run("""
        import sys
        sys.modules["mmpose"] = None
        from posecap.inference.package_compat import ensure_mmpose
        try:
            ensure_mmpose()
        except ModuleNotFoundError as error:
            print(error)
    """)
    assert "pip install 'posecap[mmpose]'" in said


# .


def test_the_best_of_overlapping_boxes_stays():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 5, 10]], dtype=torch.float32)
    scores = torch.tensor([0.5, 0.9, 0.1, 0.6])
    # IoU of the first two is 90/110; of the second and the last 40/110; of the first and the last 50/100.
    assert _nms(boxes, scores, 0.7).tolist() == [1, 3, 2]
    assert _nms(boxes, scores, 0.3).tolist() == [1, 2]
    assert _nms(boxes, scores, 0.9).tolist() == [1, 3, 0, 2]
    assert _nms(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.slow
def test_a_fresh_process_imports_torchvision_and_what_needs_it():
    code = (
        "from posecap.inference.package_compat import ensure_torchvision as e; e(); e(); import torch, torchvision; "
        "from torchvision.ops import nms; from torchvision.transforms import v2; "
        "print(nms(torch.tensor([[0.,0,9,9],[0,0,9,8]]), torch.tensor([.1,.2]), .5).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if "No module named 'torchvision'" in done.stderr:
        pytest.skip("torchvision is not installed")
    assert done.stdout.strip() == "[1]", done.stderr


def test_without_torchvision_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        ensure_torchvision()


if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("ultralytics is not installed", allow_module_level=True)

SCRIPT = """
import os, socket, sys, traceback

def refuse(*args, **kwargs):
    traceback.print_stack()
    os._exit(7)

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse

import numpy as np
import torch

from PIL import Image

saves, opens, before = torch.save, Image.open, dict(os.environ)
from posecap.engines.ultralytics import Ultralytics
from posecap.engines.ultralytics import UltralyticsBoTSORT, UltralyticsByteTrack

detector = Ultralytics(sys.argv[1], imgsz=64, conf=0.05, batch=3)
frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
found = detector.detect(frames)
for tracker in (UltralyticsBoTSORT(), UltralyticsByteTrack()):
    tracker.track(found, np.arange(3) / 25, layout=detector.layout, frames_THW3=frames)

assert torch.save is saves
assert Image.open is opens
changed = {name for name in {*os.environ, *before} if os.environ.get(name) != before.get(name)}
assert all(name.startswith(("YOLO_", "ULTRALYTICS_")) for name in changed), changed
assert repr(np.array([0.1])) == "array([0.1])", repr(np.array([0.1]))
print(sum(len(one.scores_N) for one in found))
"""


@pytest.fixture(scope="module")
def isolated(tmp_path_factory):
    """A process without a network, in a home of its own that holds the user's settings of the package."""
    folder = tmp_path_factory.mktemp("isolated")
    weights = random_weights.write(folder / "yolo11n-pose.pt", architecture="yolo11n-pose")
    for name in ("home", "here", "temporary"):
        (folder / name).mkdir()
    settings = folder / "home" / ".config" / "Ultralytics" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"sync": true, "uuid": "the user"}')
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "XDG_", "MPL", "PYTEST"))
        },
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "POSECAP_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(posecap.__file__).parents[1]), *sys.path]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(weights)]
    done = subprocess.run(command, cwd=folder / "here", env=environment, capture_output=True, text=True, check=False)
    return folder, done


@pytest.mark.slow
def test_it_works_without_a_network_and_never_asks_for_one(isolated):
    _, done = isolated
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.slow
def test_it_says_nothing(isolated):
    _, done = isolated
    assert done.stdout.strip().isdigit()
    assert done.stderr == ""


@pytest.mark.slow
def test_it_writes_its_settings_into_the_cache_and_nothing_elsewhere(isolated):
    folder, _ = isolated
    written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert written == [
        "cache/ultralytics/Ultralytics/settings.json",
        "home/.config/Ultralytics/settings.json",
        "yolo11n-pose.pt",
    ]


@pytest.mark.slow
def test_it_reports_nothing_and_leaves_the_users_settings_alone(isolated):
    folder, _ = isolated
    settings = json.loads((folder / "cache/ultralytics/Ultralytics/settings.json").read_text())
    assert settings["sync"] is False
    assert (folder / "home/.config/Ultralytics/settings.json").read_text() == '{"sync": true, "uuid": "the user"}'


@pytest.mark.parametrize("module", ["ultralytics", "lap"])
def test_what_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch, module):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(ModuleNotFoundError, match=rf"{module}.*pip install 'posecap\[ultralytics\]'"):
        ensure_ultralytics("lap")
