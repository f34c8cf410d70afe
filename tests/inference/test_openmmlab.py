"""Each in a process of its own: what is imported once stays imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

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


def test_mmpose_imports_and_only_nms_works_of_the_operators() -> None:
    said = run("""
        from posecap.inference.openmmlab import ensure_mmpose
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
        from posecap.inference.openmmlab import _stand_in_for_operators, _stand_in_for_xtcocotools
        for name in ("mmcv", "mmcv._ext", "xtcocotools", "xtcocotools._mask"):
            sys.modules[name] = types.ModuleType(name)
        before = dict(sys.modules)
        _stand_in_for_xtcocotools()
        _stand_in_for_operators()
        print(all(sys.modules[name] is module for name, module in before.items()))
    """)
    assert said == "True"


def test_a_missing_package_says_what_to_install() -> None:
    said = run("""
        import sys
        sys.modules["mmpose"] = None
        from posecap.inference.openmmlab import ensure_mmpose
        try:
            ensure_mmpose()
        except ModuleNotFoundError as error:
            print(error)
    """)
    assert "pip install 'posecap[mmpose]'" in said
