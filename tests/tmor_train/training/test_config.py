"""Settings of the training loop that do not fit each other, and what compiling is asked of torch."""

from typing import Any

import pytest
import torch
from torch import nn

from tmor_train.training.config import LoopConfig
from tmor_train.training.train_state import _compiled


def test_graphs_take_one_batch_a_step() -> None:
    assert LoopConfig(compile="on", accumulate=2).accumulate == 2
    with pytest.raises(ValueError, match=r"compile=graphs takes accumulate=1, not 2; set compile=on"):
        LoopConfig(compile="graphs", accumulate=2)


def test_compiling_is_left_out_or_records_graphs_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module, mode: asked.append(mode) or module)
    encoder = nn.Linear(2, 2)
    for how in ("off", "on", "graphs"):
        assert _compiled(encoder, LoopConfig(compile=how)) is encoder  # type: ignore[arg-type]
    assert asked == [None, "reduce-overhead"]
