"""ViTPose through posecap and through transformers' own processor, on the same weights; and files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs posecap[transformers]")

import torch

from posecap.engines import vitpose
from posecap.engines.vitpose import ViTPose, _peaks, build
from posecap.inference.crops import person_area
from posecap.inference.hub_folder import import_transformers
from posecap.models import MissingWeightsError
from posecap.types import Tracks
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError
from posecap.weights.registry import REGISTRY
from tests.random_weights import vitpose as random_weights

SIZES = ["base-simple", "plus-small"]
PUBLISHED = dict(vitpose._NETWORKS)


@pytest.fixture(autouse=True, scope="module")
def small_networks():
    with random_weights.tiny():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("vitpose")


def engine(folder: Path, size: str = "base-simple", **changes) -> ViTPose:
    path = folder / f"{size}.safetensors"
    if not path.exists():
        random_weights.write(path, size=size)
    return ViTPose(**{"size": size, "weights_from": str(path), "device": "cpu", **changes})


def inside(frames: np.ndarray) -> Tracks:
    """Two people whose crops lie within the frame: at its edge transformers fades nothing, and ViTPose's own processing
    does."""
    count, height, width = frames.shape[:3]
    boxes = np.array([[0.3, 0.2, 0.6, 0.5], [0.35, 0.5, 0.75, 0.62]]) * [width, height, width, height]
    boxes = boxes[:, None] + 1.37 * np.arange(count)[None, :, None]
    return Tracks(boxes_MT4=boxes.astype(np.float32), scores_MT=np.ones(boxes.shape[:2], np.float32))


def own_inference(size: str, frames: np.ndarray, tracks: Tracks, *, flip: bool):
    """(M, T, J, 3) by transformers' processor, network and post-processing, and (M, T, J) by how many cells the last
    moved each peak."""
    transformers = import_transformers("transformers")
    processor, network = transformers.VitPoseImageProcessor(), random_weights.network(size)
    x0, y0, x1, y1 = np.moveaxis(tracks.boxes_MT4.astype(np.float64), -1, 0)
    boxes = np.stack([x0, y0, x1 - x0, y1 - y0], -1).transpose(1, 0, 2).tolist()
    pixels = processor(list(frames), boxes=boxes, return_tensors="pt").pixel_values
    dataset = torch.zeros(len(pixels), dtype=torch.int64)
    pairs = torch.tensor([[i, i + 1] for i in range(1, 17, 2)])  # of COCO-17: left and right follow each other
    with torch.no_grad():
        outputs = network(pixels, dataset_index=dataset)
        if flip:
            mirrored = network(pixels.flip(-1), dataset_index=dataset, flip_pairs=pairs)
            outputs.heatmaps = (outputs.heatmaps + mirrored.heatmaps) / 2
    people = processor.post_process_pose_estimation(outputs, boxes=boxes)
    found = np.stack([[np.c_[p["keypoints"], p["scores"]] for p in frame] for frame in people], 1)
    areas = [[person_area(box, ratio=0.75, padding=1.25) for box in track] for track in tracks.boxes_MT4]
    middle, half = np.split(np.array(areas)[:, :, None] * [1, 1, 0.5, 0.5], 2, axis=-1)
    found[..., :2] = np.clip(found[..., :2], middle - half, middle + half)  # ours stay in the crop
    return found, _moved(outputs.heatmaps.numpy()).reshape(len(people), -1, 17).transpose(1, 0, 2)


def in_cells(heatmaps: np.ndarray) -> np.ndarray:
    """(N, J, 2) places by transformers' own post-processing, in cells: of an area as large as the heatmap."""
    processor = import_transformers("transformers").VitPoseImageProcessor()
    size = np.array([heatmaps.shape[3] - 1, heatmaps.shape[2] - 1], np.float32)
    middle, scale = np.tile(size / 2, (len(heatmaps), 1)), np.tile(size / 200, (len(heatmaps), 1))
    return processor.keypoints_from_heatmaps(heatmaps, middle, scale)[0]


def _moved(heatmaps: np.ndarray) -> np.ndarray:
    """(N, J) by how many cells transformers refines each peak, the larger of x and y."""
    y, x = np.divmod(heatmaps.reshape(*heatmaps.shape[:2], -1).argmax(-1), heatmaps.shape[3])
    return np.abs(in_cells(heatmaps) - np.stack([x, y], -1)).max(-1)


@pytest.mark.parametrize("flip", ["on", "off"])
@pytest.mark.parametrize("size", SIZES)
def test_joints_are_those_of_transformers_own_inference(folder, real_frames, size, flip):
    tracks = inside(real_frames)
    got = engine(folder, size, flip_test=flip).estimate(real_frames, tracks)
    theirs, moved = own_inference(size, real_frames, tracks, flip=flip == "on")
    seen = theirs[..., 2] > 0.05
    np.testing.assert_allclose(got[..., 2], np.clip(theirs[..., 2], 0, 1) * (theirs[..., 2] > 0), atol=2e-3)
    peaked = seen & (moved < 0.9)  # transformers moves others anywhere
    assert peaked.mean() > 0.7
    away = np.abs(got[..., :2] - theirs[..., :2]).max(-1)[peaked]
    # Of a random network two cells far apart may be equally high, and a rounded grey level decides.
    assert (away < 0.1).mean() > 0.97
    assert np.median(away) < 0.005


def test_places_between_cells_are_transformers_own():
    y, x = np.mgrid[:64, :48]
    tops = np.random.default_rng(1).uniform([0, 0], [47, 63], (3, 17, 2))
    heatmaps = np.exp(-((x - tops[..., :1, None]) ** 2 + (y - tops[..., 1:, None]) ** 2) / 8).astype(np.float32)
    places, scores = _peaks(heatmaps)
    np.testing.assert_allclose(places, np.clip(in_cells(heatmaps), 0, [47, 63]), atol=1e-3)
    middle = ((tops > 4) & (tops < [43, 59])).all(-1)
    np.testing.assert_allclose(places[middle], tops[middle], atol=0.02)
    np.testing.assert_array_equal(scores, heatmaps.max((2, 3)))


def test_a_plain_heatmap_has_its_joint_at_the_first_cell_and_nothing_goes_out_of_the_picture():
    heatmaps = np.zeros((1, 2, 64, 48), np.float32)
    heatmaps[0, 1] = np.random.default_rng(0).random((64, 48))
    places, scores = _peaks(heatmaps)
    assert places[0, 0].tolist() == [0, 0]
    assert scores[0, 0] == 0
    assert np.isfinite(places).all()
    y, x = np.divmod(heatmaps[0, 1].argmax(), 48)
    assert (np.abs(places[0, 1] - [x, y]) <= 1).all()


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_sizes_have_the_published_number_of_bytes(size, monkeypatch):
    """Files are a header and the tensors; where a file's size is not known it is taken from them."""
    monkeypatch.setattr(vitpose, "_NETWORKS", PUBLISHED)
    with torch.device("meta"):
        state = build(import_transformers("transformers"), size).state_dict()
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert 0 < REGISTRY[f"vitpose-{size}"].size_bytes - tensors < 130_000


@pytest.mark.parametrize(
    ("fields", "name"), [({}, "vitpose-base-simple"), ({"size": "plus-huge"}, "vitpose-plus-huge")]
)
def test_the_published_weights_of_its_size_are_the_default(fields, name):
    assert ViTPose(**fields).weights == (name,)
    assert ViTPose(**fields).name == f"{name}-coco17"
    assert REGISTRY[name].license == "Apache-2.0"


def test_memory_that_ends_halves_the_batch(folder, real_frames, monkeypatch):
    tracks = inside(real_frames)
    whole = engine(folder).estimate(real_frames, tracks)
    cramped, sizes = engine(folder, batch=8), []
    forward = cramped._network.forward

    def small(pixels, **others):
        sizes.append(len(pixels))
        if len(pixels) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(pixels, **others)

    monkeypatch.setattr(cramped._network, "forward", small)
    np.testing.assert_allclose(cramped.estimate(real_frames, tracks), whole, atol=1e-3)
    assert sizes == [8, 4, 4, 4, 4]  # each crop twice, once mirrored


def test_in_bfloat16_heatmaps_are_decoded_in_float32(folder, real_frames):
    joints = engine(folder, precision="bf16").estimate(real_frames, inside(real_frames))
    assert joints.dtype == np.float32
    assert (joints[..., 2] > 0).any()


def test_missing_weights_say_so(tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing-here"):
        ViTPose(weights_from=str(tmp_path / "nothing-here.safetensors")).load()


def test_a_truncated_file_is_refused(folder, tmp_path):
    path = tmp_path / "short.safetensors"
    path.write_bytes(Path(engine(folder).weights_from).read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"short\.safetensors is cut off"):
        ViTPose(weights_from=str(path)).load()


def test_weights_of_another_size_are_refused(folder):
    with pytest.raises(WrongArchitectureError, match="does not fit VitPoseForPoseEstimation"):
        ViTPose(size="plus-small", weights_from=engine(folder).weights_from).load()


def test_random_weights_are_not_used_by_accident(folder, monkeypatch):
    ours = engine(folder)
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        ours.load()


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    import sys

    ours = engine(folder)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'posecap\[transformers\]'"):
        ours.load()


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        ViTPose(batch=0)
