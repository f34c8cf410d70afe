"""What the documents show runs, and what they point at is there."""

import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest

import posecap
from posecap.build import Options, add_member
from posecap.interfaces import Detections, Detector
from posecap.shards.extra import MemberName
from posecap.stage import Engine, Reject, Stage
from posecap.types import Floats
from tests import ROOT, building, built

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def code(document: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.fixture
def examples() -> Iterator[ModuleType]:
    """The files that docs/extend.md shows, as one module."""
    module = ModuleType("examples")
    sys.modules["examples"] = module
    for block in code("docs/extend.md"):
        if block.startswith('"""'):
            exec(compile(block, "docs/extend.md", "exec"), module.__dict__)
    yield module
    del sys.modules["examples"]


class Leftmost(Engine):
    """Finds one person, whose left shoulder is at the frame's brightest pixel."""

    name, layout = "leftmost", "coco17"

    def detect(self, frames_THW3: np.ndarray) -> list[Detections]:
        return [self._one(frame) for frame in frames_THW3]

    def _one(self, frame: np.ndarray) -> Detections:
        y, x = np.unravel_index(frame[..., 0].argmax(), frame.shape[:2])
        joints = np.zeros((1, 17, 3), np.float32)
        joints[0, 5] = x + 0.5, y + 0.5, 0.9
        box = np.array([[x, y, x + 3, y + 4]], np.float32)
        return Detections(boxes_N4=box, scores_N=np.ones(1, np.float32), joints_NJ3=joints)


def test_the_mirrored_detector_mirrors_its_answer_back(examples: ModuleType) -> None:
    frames = np.zeros((1, 20, 50, 3), np.uint8)
    frames[0, 7, 10] = 255
    mirrored = examples.Mirrored(Leftmost())
    assert isinstance(mirrored, Detector)
    (found,) = mirrored.detect(frames)
    assert found.joints_NJ3 is not None
    np.testing.assert_allclose(found.joints_NJ3[0, 6], [10.5, 7.5, 0.9])  # what seemed the left shoulder is the right
    assert not found.joints_NJ3[0, 5, 2]
    np.testing.assert_array_equal(found.boxes_N4, [[8, 7, 11, 11]])


def test_the_steady_stage_puts_a_jump_back_in_line(examples: ModuleType) -> None:
    joints = np.zeros((1, 5, 17, 3), np.float32)
    joints[..., 0, :] = [10, 20, 0.5]
    joints[0, 2, 0, 0] = 90
    stage = examples.Steady(frames=3)
    assert isinstance(stage, Stage)
    (steady,) = stage(building.posed(joints_MTJ3=joints))
    np.testing.assert_array_equal(steady.joints_MTJ3[0, :, 0], [[10, 20, 0.5]] * 5)
    assert not steady.joints_MTJ3[0, :, 1:].any()
    with pytest.raises(Reject, match="too_short"):
        list(stage(building.posed(frames=2)))


def test_reading_as_the_readme_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built.build(tmp_path / "datasets" / "demo")
    monkeypatch.chdir(tmp_path)
    block, members, _ = code("README.md")  # the last one is about training: tests/tmor_train/test_training_docs.py
    shown: dict[str, object] = {}
    exec(compile(block.replace(", num_workers=2", "").replace("> 0.2", ">= 0"), "README.md", "exec"), shown)
    assert shown["sample"].key in posecap.index("datasets/demo").to_table()["key"].to_pylist()  # type: ignore[attr-defined]
    assert shown["batch"]["joints_BMTJ3"].shape[-2:] == (17, 3)  # type: ignore[index]
    options = Options(runner="local", workers=1, progress="none")
    add_member("datasets/demo", MemberName("text", "minilm"), Alike(), options=options)
    exec(compile(members, "README.md", "exec"), shown)
    assert shown["sample"]["text.minilm"].shape == (2, 384)  # type: ignore[index]


@dataclass(frozen=True)
class Alike(Engine):
    """A text embedder for which all sentences are alike."""

    name: ClassVar[str] = "alike"
    dimension: int = 384

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        return np.full((len(sentences), 384), 384**-0.5, np.float32)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), f"{document.name} points at {target}"


def test_no_module_hides_a_public_name() -> None:
    """Importing posecap.X would put the module in the place of posecap.X, the function."""
    assert not {module.name for module in pkgutil.iter_modules(posecap.__path__)} & set(posecap.__all__)
