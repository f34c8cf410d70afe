"""What the loop of fine-tuning and detection stores; stopping and resuming is tested with both of them."""

import torch
from torch import Tensor, nn

from tmor_train.data.dataset import Numbers
from tmor_train.evaluation.config import TrainerConfig
from tmor_train.evaluation.trainer import Trainer


class Scale(Trainer[Numbers]):
    """One number, drawn to 1."""

    network: nn.Linear
    stored_as, settings = "scale", "train"

    def __init__(self) -> None:
        head, cpu = nn.Linear(1, 1, bias=False), torch.device("cpu")
        nn.init.zeros_(head.weight)
        super().__init__(head, TrainerConfig(), head=[head.weight], trunk=[], device=cpu, seed=0, average=0.5)

    def loss(self, batch: Numbers) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.network.weight - 1).square().sum(), {}


def test_the_state_of_version_0_1_is_read() -> None:
    one, other = Scale(), Scale()
    for _ in range(3):
        one.train_step(torch.arange(2).numpy(), lr_ratio=1.0)
    state = one.state_dict()
    old = {**state, "averaged": state["ema"] | {"n_averaged": torch.tensor(3)}}
    del old["ema"]
    other.load_state_dict(old)
    assert other.step == 3
    assert one.ema is not None
    assert other.ema is not None
    assert 0 < float(one.ema.module.weight) < float(one.network.weight.detach())
    assert torch.equal(other.network.weight, one.network.weight)
    assert torch.equal(other.ema.module.weight, one.ema.module.weight)
