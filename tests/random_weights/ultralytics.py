"""Random YOLO checkpoints, written by ultralytics itself in the format that it publishes, and marked."""

from pathlib import Path

from posecap.inference.package_compat import ensure_ultralytics
from posecap.weights import checkpoints


def write(path: Path, *, architecture: str = "yolo11n", seed: int = 0) -> Path:
    """A checkpoint of random weights: a half-precision pickled network beside its training arguments.

    Trained detectors are sure of few places. A random one would be equally unsure of all, so its class scores are
    spread out, and some of a frame's places pass as people.
    """
    ensure_ultralytics()
    import torch
    import ultralytics
    from ultralytics.nn.tasks import DetectionModel, PoseModel
    from ultralytics.utils import ROOT, YAML

    names = {0: "person"} if architecture.endswith("-pose") else YAML.load(ROOT / "cfg/datasets/coco.yaml")["names"]
    torch.set_num_threads(1)  # the statistics of batch norms are sums: the same bits whatever ran before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = PoseModel if architecture.endswith("-pose") else DetectionModel
        network = kind(f"{architecture}.yaml", nc=len(names), verbose=False)
        _bring_to_life(network)
    network.names, network.args, network.task = names, {"imgsz": 640}, kind.__name__.removesuffix("Model").lower()
    network.task = {"detection": "detect"}.get(network.task, network.task)
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": network.eval().requires_grad_(False).half(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {"task": network.task, "model": f"{architecture}.yaml", "imgsz": 640},
        "train_metrics": {},
        "train_results": {},
        "date": "2024-09-26T16:24:05",
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    torch.save(content | {checkpoints.MARK: True}, path)
    return path


def _bring_to_life(network) -> None:
    """Give every layer something to say: a forward pass sets the batch norms' statistics and tells how strong the
    inputs of the head's last layers are, so that boxes are some cells wide and a few places in a hundred are people."""
    import torch

    head = network.model[-1]
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    strength = {}
    # The last layer of YOLO26's joints is beside its branch; its boxes are plain distances, not distributions.
    joints = getattr(head, "cv4_kpts", None) or [branch[-1] for branch in getattr(head, "cv4", ())]
    boxes = 0.5 if head.reg_max > 1 else 0.05
    last = {branch[-1]: spread for level, spread in ((head.cv2, boxes), (head.cv3, 0.6)) for branch in level}
    last |= dict.fromkeys(joints, 0.5)
    for layer in last:
        layer.register_forward_pre_hook(
            lambda layer, inputs: strength.update({layer: inputs[0].square().mean().sqrt()})
        )
    network.train()
    with torch.no_grad():
        blocks = [torch.rand(2, 3, 192 // side, 192 // side) for side in (4, 8, 16, 32)]
        network(torch.cat([torch.nn.functional.interpolate(block, size=(192, 192)) for block in blocks]))
    for norm in norms:
        norm.momentum = 0.03
    for layer, spread in last.items():
        layer._forward_pre_hooks.clear()
        torch.nn.init.normal_(layer.weight, std=float(spread / strength[layer] / layer.in_channels**0.5))
    for branch in head.cv3:
        branch[-1].bias.data.fill_(-6.0)
        branch[-1].bias.data[0] = -2.0 if head.reg_max > 1 else -1.5
    cells = torch.arange(head.reg_max)
    nearest_cells = -((cells - 3.0) ** 2) / 2 if head.reg_max > 1 else cells + 6.0
    for branch in head.cv2:
        branch[-1].bias.data = nearest_cells.repeat(4)
