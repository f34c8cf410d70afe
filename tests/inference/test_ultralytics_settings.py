"""The package keeps to itself: in a process of its own, since what it does it does at its first import."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_weights import ultralytics as random_weights

from posecap.inference import ultralytics_settings
from posecap.inference.ultralytics_settings import ensure_ultralytics

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
from posecap.engines.ultralytics_trackers import UltralyticsBoTSORT, UltralyticsByteTrack

detector = Ultralytics(sys.argv[1], long_side=64, score=0.05, batch=3)
frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
found = detector.detect(frames)
for tracker in (UltralyticsBoTSORT(), UltralyticsByteTrack()):
    tracker.follow(found, np.arange(3) / 25, layout=detector.layout, frames_THW3=frames)

assert torch.save is saves
assert Image.open is opens
changed = {name for name in {*os.environ, *before} if os.environ.get(name) != before.get(name)}
assert all(name.startswith(("YOLO_", "ULTRALYTICS_")) for name in changed), changed
assert repr(np.array([0.1])) == "array([0.1])", repr(np.array([0.1]))
print(sum(len(one.scores_N) for one in found))
"""


@pytest.fixture(scope="module")
def lonely(tmp_path_factory):
    """A process without a network, in a home of its own that holds the user's settings of the package."""
    folder = tmp_path_factory.mktemp("lonely")
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
        "PYTHONPATH": os.pathsep.join([str(Path(ultralytics_settings.__file__).parents[2]), *sys.path]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(weights)]
    done = subprocess.run(command, cwd=folder / "here", env=environment, capture_output=True, text=True, check=False)
    return folder, done


def test_it_works_without_a_network_and_never_asks_for_one(lonely):
    _, done = lonely
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_it_says_nothing(lonely):
    _, done = lonely
    assert done.stdout.strip().isdigit()
    assert done.stderr == ""


def test_it_writes_its_settings_into_the_cache_and_nothing_elsewhere(lonely):
    folder, _ = lonely
    written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert written == [
        "cache/ultralytics/Ultralytics/settings.json",
        "home/.config/Ultralytics/settings.json",
        "yolo11n-pose.pt",
    ]


def test_it_reports_nothing_and_leaves_the_users_settings_alone(lonely):
    folder, _ = lonely
    settings = json.loads((folder / "cache/ultralytics/Ultralytics/settings.json").read_text())
    assert settings["sync"] is False
    assert (folder / "home/.config/Ultralytics/settings.json").read_text() == '{"sync": true, "uuid": "the user"}'


@pytest.mark.parametrize("module", ["ultralytics", "lap"])
def test_what_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch, module):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(ModuleNotFoundError, match=rf"{module}.*pip install 'posecap\[ultralytics\]'"):
        ensure_ultralytics("lap")
