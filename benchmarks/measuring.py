"""Shared by the benchmarks of this folder: arguments, time and memory, an object store, made-up samples."""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from posecap.types import Caption, Sample

Item = TypeVar("Item")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser whose ``--help`` begins with a program's own description."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def best(
    contenders: Mapping[str, Callable[[], object]], repeats: int, *, synchronize: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Shortest time of each contender in seconds, over ``repeats`` rounds in which each runs once.

    ``synchronize`` waits for what a device still computes, before and after each run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            synchronize()
            started = perf_counter()
            run()
            synchronize()
            seconds[name].append(perf_counter() - started)
    return {name: min(times) for name, times in seconds.items()}


def threaded_seconds(items: Iterable[Item], workers: Sequence[Callable[[Item], object]]) -> float:
    """Wall seconds until ``workers``, each in a thread of its own, have worked through the items that they share."""
    waiting = iter(items)

    def work(one: Callable[[Item], object]) -> None:
        for item in waiting:
            one(item)

    since = perf_counter()
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(work, workers))  # raises what a worker raised
    return perf_counter() - since


def peak_bytes() -> int:
    """Peak resident memory of this process, on Linux.

    Not from getrusage, which gives the peak of the parent process where that is higher.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    """CPU seconds of this process, or with ``RUSAGE_CHILDREN`` of the child processes that it has waited for."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@contextmanager
def object_store() -> Iterator[str]:
    """The address of a bucket of an S3 server, which every process that is started in the block reaches by environment
    variables; they stay set. Raises what s3fs raises if the server does not answer within a minute."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    os.environ.update({"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"})
    os.environ.update(
        {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    )
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], **quiet)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        import s3fs

        s3fs.S3FileSystem().mkdir("datasets")
        yield "s3://datasets"
    finally:
        server.kill()


def made_sample(
    number: int, joints_MTJ3: np.ndarray, *, video_D: np.ndarray, text_CD: np.ndarray, caption: str
) -> Sample:
    """A made-up sample at 25 frames a second, with the caption as if its row gave it.

    Args:
        number: by which key, row and video are named.
    """
    people, frames, joints, _ = joints_MTJ3.shape
    key, pts_T = f"{number:024x}", np.arange(frames) / 25.0
    span = [float(pts_T[0]), float(pts_T[-1])]
    facts: dict[str, Any] = {
        "clip_id": key,
        "row_id": f"row-{number}",
        "uri": f"videos/{number}.mp4",
        "source_id": f"{number:064x}",
        "start_seconds": 0.0,
        "end_seconds": frames / 25.0,
        "pts_span": span,
        "video_span": span,
        "fps": 25.0,
        "width": 640,
        "height": 360,
        "codec": "h264",
        "frames": frames,
        "people": people,
        "joints": joints,
        "layout": "coco17",
        "label": "walking",
        "split": "train",
        "license": "CC0-1.0",
        "source": "made up",
        "quality": {
            "coverage": 1.0,
            "mean_score": 0.5,
            "zero_pose_share": 0.0,
            "jitter": 0.01,
            "bone_jump_share": 0.0,
            "identity_switches": 0,
            "motion": 0.3,
        },
        "models": {"decoder": "decord", "video": "efficientnet-lite0", "text": "minilm"},
    }
    return Sample(
        key=key,
        joints_MTJ3=joints_MTJ3,
        pts_T=pts_T,
        video_D=video_D,
        text_CD=text_CD,
        captions=(Caption(caption, "row"),),
        facts=facts,
    )
