import pytest
import torch

from posecap.inference.device import NoSuchDevice, torch_device, torch_dtype


def test_without_a_gpu_auto_is_the_cpu_with_one_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(2)
    assert torch_device("auto") == torch.device("cpu")
    assert torch.get_num_threads() == 1


def test_asking_for_a_gpu_that_is_not_there_says_what_to_check(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoSuchDevice, match=r"Resources\(gpus=1\)"):
        torch_device("cuda")


def test_half_precision_is_for_gpus_unless_asked_for():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert torch_dtype("auto", gpu) is torch_dtype("bf16", cpu) is torch.bfloat16
    assert torch_dtype("auto", cpu) is torch_dtype("fp32", gpu) is torch.float32
