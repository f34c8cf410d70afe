"""The numbers by which the faster of two ways of computing the same is chosen, measured on this machine.

    python benchmarks/estimates.py [--repeats 15]

For ``tmor_train/clustering/neighbours.py``, on blocks of 1536 rows of 256 numbers as a search on a CPU has them:
``OVERHEAD``, the time of comparing a block's scores with bounds, and ``MEASURING``, that of measuring one pair in
float64, each as a multiple of the time that the product of a block, or of one pair of it, takes. For
``tmor_train/backbones/layers.py``: each convolution along time of the backbones at several lengths, the share of its
products that Fourier transforms need, and their time as a share of the plain convolution's; ``_WORTH_IT`` is a share
up to which they win. For ``posecap/engines/movenet.py``: the time of shrinking frames in two steps, as a share of that
in one.

One thread; the median over the repeats of CPU seconds, which other programs change little.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from statistics import median
from time import process_time

# One thread, which the libraries read when they are imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measuring import parser_of  # noqa: E402
from PIL import Image  # noqa: E402

from posecap.engines.movenet import MoveNet  # noqa: E402
from tmor_train.backbones.layers import STRIDED, TEMPORAL_KERNEL, WIDTHS, TemporalConvolution  # noqa: E402
from tmor_train.clustering.neighbours import (  # noqa: E402  # noqa: E402
    BLOCK_SIZE_CPU,
    MEASURED_AT_ONCE,
    MEASURING,
    OVERHEAD,
    BlockProducts,
    at_least,
    normalize,
)

DIMENSIONS = 256
"""Of an embedding."""
LENGTHS = (16, 32, 64, 150)
"""Frames of a clip: those of the recipes."""
CLIPS, JOINTS = 8, 17
"""Of a batch: our choice, large enough for matrix products at full speed."""
PICTURES = ((1280, 720), (1920, 1080))
"""Width and height of frames: the commonest of cameras."""


def seconds_of(run: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of a call, after one that is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        since = process_time()
        run()
        taken.append(process_time() - since)
    return median(taken)


def clustering(repeats: int) -> str:
    """OVERHEAD and MEASURING as measured, beside those that the code has."""
    rows = 2 * BLOCK_SIZE_CPU
    vectors = normalize(np.random.default_rng(0).standard_normal((rows, DIMENSIONS)).astype(np.float32))
    products = BlockProducts(vectors.unit_ND, block_size=BLOCK_SIZE_CPU)
    left, right = torch.arange(BLOCK_SIZE_CPU), torch.arange(BLOCK_SIZE_CPU, rows)
    product = seconds_of(lambda: products(left, right), repeats)
    scores = products(left, right)
    compared = seconds_of(lambda: at_least(scores, 0.9), repeats)
    some = torch.randint(rows, (2, MEASURED_AT_ONCE))
    measured = seconds_of(lambda: vectors.distances(some[0], some[1]), repeats)
    overhead, measuring = compared / product, measured / MEASURED_AT_ONCE / (product / BLOCK_SIZE_CPU**2)
    return (
        f"OVERHEAD {overhead:.2f} (in the code {OVERHEAD:g}), MEASURING {measuring:.0f} (in the code {MEASURING:g}); "
        f"a block's product takes {1000 * product:.1f} ms"
    )


def convolutions(length: int, repeats: int) -> list[str]:
    """A line for each kind of convolution of the backbones at ``length`` frames (halved behind each stride)."""
    lines, frames, known = [], length, set[tuple[int, int, int]]()
    for number, width in enumerate(WIDTHS, 1):
        stride = 2 if number in STRIDED else 1
        if (width, stride, frames) not in known:
            known.add((width, stride, frames))
            lines.append(convolution(width, stride, frames, repeats))
        frames = -(-frames // stride)
    return lines


def convolution(width: int, stride: int, frames: int, repeats: int) -> str:
    """Share of products and of time, without gradients."""
    layer = TemporalConvolution(width, width, kernel=TEMPORAL_KERNEL, stride=stride)
    x = torch.randn(CLIPS, width, frames, JOINTS).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = seconds_of(lambda: super(TemporalConvolution, layer).forward(x), repeats)
        transformed = seconds_of(lambda: layer._by_frequencies(x), repeats)
    return (
        f"  {frames:4} frames, {width:3} channels, stride {stride}: {layer._share(frames):.2f} of the products, "
        f"{transformed / plain:.2f} of the time"
    )


def shrinking(width: int, height: int, repeats: int) -> str:
    """Share of time of shrinking a frame of noise to MoveNet's longer side by a whole number first."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    frame, small = Image.fromarray(pixels), (MoveNet.imgsz, MoveNet.imgsz * height // width)
    one, two = (
        seconds_of(partial(frame.resize, small, Image.Resampling.BILINEAR, reducing_gap=gap), repeats)
        for gap in (None, 1.0)
    )
    return f"shrinking {width} x {height} to {small[0]} x {small[1]} in two steps: {two / one:.2f} of the time in one"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="of each call (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for width, height in PICTURES:
        print(shrinking(width, height, options.repeats), flush=True)
    print(clustering(options.repeats), flush=True)
    for length in LENGTHS:
        print(*convolutions(length, options.repeats), sep="\n", flush=True)


if __name__ == "__main__":
    main()
