"""Halves only where a processor computes in them."""

import pytest
import torch

from tmor_train.training.device import autocast_of

CPU = torch.device("cpu")


def dtype_inside(precision: str) -> torch.dtype:
    with autocast_of(precision, CPU):  # type: ignore[arg-type]
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_a_cpu_computes_in_float32_unless_told() -> None:
    assert dtype_inside("auto") == dtype_inside("float32") == torch.float32


def test_a_cpu_without_bfloat16_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match=r"set loop.precision=float32"):
        autocast_of("bfloat16", CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert dtype_inside("bfloat16") == torch.bfloat16
