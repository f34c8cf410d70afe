import subprocess
import sys

import pytest
import torch

from posecap.inference.torchvision_ops import _nms, ensure_torchvision


def test_the_best_of_overlapping_boxes_stays():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 5, 10]], dtype=torch.float32)
    scores = torch.tensor([0.5, 0.9, 0.1, 0.6])
    # IoU of the first two is 90/110; of the second and the last 40/110; of the first and the last 50/100.
    assert _nms(boxes, scores, 0.7).tolist() == [1, 3, 2]
    assert _nms(boxes, scores, 0.3).tolist() == [1, 2]
    assert _nms(boxes, scores, 0.9).tolist() == [1, 3, 0, 2]
    assert _nms(boxes[:0], scores[:0], 0.5).tolist() == []


def test_a_fresh_process_imports_torchvision_and_what_needs_it():
    code = (
        "from posecap.inference.torchvision_ops import ensure_torchvision as e; e(); e(); import torch, torchvision; "
        "from torchvision.ops import nms; from torchvision.transforms import v2; "
        "print(nms(torch.tensor([[0.,0,9,9],[0,0,9,8]]), torch.tensor([.1,.2]), .5).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if "No module named 'torchvision'" in done.stderr:
        pytest.skip("torchvision is not installed")
    assert done.stdout.strip() == "[1]", done.stderr


def test_without_torchvision_it_says_so(monkeypatch):
    from posecap.inference import torchvision_ops

    torchvision_ops._import_once.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        ensure_torchvision()
    torchvision_ops._import_once.cache_clear()
