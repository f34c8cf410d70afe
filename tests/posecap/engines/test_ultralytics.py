"""YOLO and trackers through posecap and through the package itself, on the same weights and frames; and files that are
not what they say."""

import importlib.util
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from posecap.engines.movenet import MoveNet
from posecap.engines.pyav import PyAV
from posecap.engines.ultralytics import Ultralytics, UltralyticsBoTSORT, UltralyticsByteTrack
from posecap.inference.package_compat import ensure_ultralytics
from posecap.interfaces import Detections
from posecap.models import locate
from tests.models_at_hand import weights_or_skip
from tests.random_weights import ultralytics as random_weights

if importlib.util.find_spec("ultralytics") is None:  # importing it here would be importing it unprepared
    pytest.skip("ultralytics is not installed", allow_module_level=True)
torch = pytest.importorskip("torch")

from posecap.engines.ultralytics import _build  # noqa: E402
from posecap.models import MissingWeightsError  # noqa: E402
from posecap.stage import TransientError  # noqa: E402
from posecap.weights import checkpoints  # noqa: E402
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError  # noqa: E402

SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("yolo")


EVERYDAY = pytest.mark.parametrize(
    ("video", "people"),
    [("exercise/push-ups/push-up_10.mp4", 1), ("surveillance/noFight/noFight_nofi050.mp4", 4)],
    ids=["push-up", "crossing"],
)


@pytest.fixture(scope="module")
def published() -> Ultralytics:
    """YOLO11n-pose with the weights that its makers published."""
    ours = Ultralytics("yolo11n-pose")
    weights_or_skip(*ours.weights)
    return ours


def engine(folder: Path, architecture: str = "yolo11n-pose", **settings) -> Ultralytics:
    path = folder / f"{architecture}.pt"
    if not path.exists():
        random_weights.write(path, architecture=architecture)
    return Ultralytics(**{"weights_from": str(path), "imgsz": SIDE, **settings})


def rewritten(folder: Path, path: Path, change) -> str:
    """The small network's file after ``change`` had its way with the content, written by pickle itself."""
    random_weights.write(path, architecture="yolo11n")
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)
    return str(path)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (5, 9, 16, 3), dtype=np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


@pytest.mark.parametrize(
    "architecture", ["yolo11n", "yolo11n-pose", "yolov8n", "yolov8n-pose", "yolo26n", "yolo26n-pose"]
)
def test_boxes_and_joints_are_those_of_the_packages_predict(folder, real_frames, architecture):
    assert people_as_predicted(engine(folder, architecture), real_frames) > 10


@pytest.mark.slow
@pytest.mark.data
@EVERYDAY
def test_with_published_weights_too_people_are_those_of_the_packages_predict(published, shared_frames, video, people):
    frames = shared_frames(video)[::10]
    assert people_as_predicted(published, frames) >= people * len(frames)


def test_published_weights_find_the_man_with_his_joints_and_the_other_behind_him(published, real_frames):
    assert people_as_predicted(published, real_frames) == 2 * len(real_frames)
    for found in published.detect(real_frames):
        assert found.scores_N[0] > 0.7
        assert (found.joints_NJ3[0, 5:, 2] > 0.5).all()  # from the shoulders down


def people_as_predicted(ours: Ultralytics, frames: np.ndarray) -> int:
    """How many people the engine finds, after each is compared with what ``YOLO.predict`` finds."""
    found = ours.detect(frames)
    from ultralytics import YOLO

    settings = {"conf": ours.conf, "iou": ours.iou, "imgsz": ours.imgsz, "max_det": ours.max_det}
    pictures = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
    theirs = YOLO(locate(ours.weights_from)).predict(
        pictures, classes=[0], device="cpu", verbose=False, save=False, **settings
    )
    for here, there in zip(found, theirs, strict=True):
        np.testing.assert_allclose(here.boxes_N4, there.boxes.xyxy.numpy(), atol=0.01)
        np.testing.assert_allclose(here.scores_N, there.boxes.conf.numpy(), atol=1e-5)
        if ours.layout is not None:
            np.testing.assert_allclose(here.joints_NJ3, there.keypoints.data.numpy(), atol=0.01)
    return sum(len(one.scores_N) for one in found)


@pytest.mark.parametrize(
    ("architecture", "classes", "parameters"),
    [
        ("yolo11n", 80, 2_624_080),
        ("yolo11s", 80, 9_458_752),
        ("yolo26n", 80, 2_572_280),
        ("yolo26n-pose", 80, 3_747_554),
        ("yolov8n", 80, 3_157_200),
        ("yolov8n-pose", 1, 3_295_470),
    ],
)
def test_networks_have_the_published_number_of_parameters(architecture, classes, parameters):
    ensure_ultralytics()
    assert sum(p.numel() for p in _build(architecture, classes).parameters()) == parameters


def test_only_people_are_found(folder, noise):
    ours = engine(folder, "yolo11n", conf=0.01)
    model = ours._model
    assert (model.classes, model.person) == (80, 0)
    head = model.network.model[-1]
    biases = [branch[-1].bias for branch in head.cv3]
    kept = [bias.clone() for bias in biases]
    for bias in biases:
        bias[0], bias[1] = -100.0, 5.0  # everything is a bicycle
    found = ours.detect(noise)
    for bias, before in zip(biases, kept, strict=True):
        bias.copy_(before)
    assert [len(frame.scores_N) for frame in found] == [0] * len(noise)


def test_a_file_says_by_its_name_what_it_is():
    assert Ultralytics().name == "ultralytics-yolo11m"
    assert Ultralytics().layout is None
    assert Ultralytics("/somewhere/yolov8x-pose.pt").name == "ultralytics-yolov8x-pose"
    assert Ultralytics("/somewhere/yolov8x-pose.pt").layout == "coco17"
    assert Ultralytics("/somewhere/best.pt", architecture="yolo11s-pose").layout == "coco17"
    assert Ultralytics("yolo11s").weights == ("yolo11s",)


def test_a_name_that_says_nothing_needs_an_architecture():
    with pytest.raises(ValueError, match=r"'best'.*architecture='yolo11m-pose'"):
        Ultralytics("/somewhere/best.pt")


@pytest.mark.parametrize("side", [0, 16, 500])
def test_sizes_that_the_network_cannot_take_are_refused(side):
    with pytest.raises(ValueError, match="multiple of 32"):
        Ultralytics(imgsz=side)


def test_it_travels_to_workers_and_serves_as_a_key():
    ours = Ultralytics("yolo11n-pose", conf=0.4)
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert {ours: 1}[Ultralytics("yolo11n-pose", conf=0.4)] == 1


def test_half_precision_files_compute_in_float32(folder):
    network = engine(folder)._model.network
    assert checkpoints.load(folder / "yolo11n-pose.pt", unknown_classes="inert")["model"].name == "PoseModel"
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_in_bfloat16_the_head_still_decodes_in_float32(folder, noise):
    ours = engine(folder, precision="bf16")
    found = ours.detect(noise[:2])
    head = ours._model.network.model[-1]
    assert {p.dtype for p in head.parameters()} == {torch.float32}
    assert ours._model.network.model[0].conv.weight.dtype == torch.bfloat16
    assert {d.boxes_N4.dtype for d in found} == {d.joints_NJ3.dtype for d in found} == {np.dtype("float32")}
    assert sum(len(d.scores_N) for d in found) > 0


def test_a_batch_that_does_not_fit_is_halved(folder, noise, monkeypatch):
    wanted = engine(folder, batch=2).detect(noise)
    ours = engine(folder, batch=5)
    network, sizes = ours._model.network, []
    forward = network.forward

    def cramped(pixels):
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(pixels)

    monkeypatch.setattr(network, "forward", cramped)
    found = ours.detect(noise)
    assert sizes == [5, 2, 2, 1]
    for here, there in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(here.boxes_N4, there.boxes_N4)


def test_a_single_frame_that_does_not_fit_is_a_passing_trouble(folder, noise, monkeypatch):
    ours = engine(folder)

    def full(pixels):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(ours._model.network, "forward", full)
    with pytest.raises(TransientError, match="out_of_memory"):
        ours.detect(noise)


def test_missing_weights_say_where_to_get_them(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"yolo11n\.pt"):
        Ultralytics(str(tmp_path / "yolo11n.pt")).load()


def test_a_truncated_file_is_refused(folder, tmp_path):
    path = random_weights.write(tmp_path / "yolo11n.pt", architecture="yolo11n")
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(CheckpointError, match=r"yolo11n\.pt"):
        Ultralytics(str(path)).load()


class _Payload:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_what_a_hostile_file_would_run_does_not_run(folder, tmp_path):
    place = tmp_path / "payload-ran"
    path = rewritten(folder, tmp_path / "yolo11n.pt", lambda content: content.update(model=_Payload(place)))
    with pytest.raises(CheckpointError):
        Ultralytics(path).load()
    assert not place.exists()


def test_a_payload_beside_a_sound_network_does_not_run_either(folder, tmp_path, noise):
    place = tmp_path / "payload-ran"
    path = rewritten(folder, tmp_path / "yolo11n.pt", lambda content: content.update(train_args=_Payload(place)))
    Ultralytics(path, imgsz=SIDE).detect(noise[:1])
    assert not place.exists()


def test_the_architecture_that_a_file_describes_is_not_believed(folder, tmp_path, noise):
    place = tmp_path / "payload-ran"

    def describe(content):
        content["model"].yaml["activation"] = f"__import__('os').mkdir({str(place)!r})"
        content["model"].yaml["backbone"] = [[-1, 1, "nn.Identity", []]]

    path = rewritten(folder, tmp_path / "yolo11n.pt", describe)
    assert len(Ultralytics(path, imgsz=SIDE).detect(noise[:1])) == 1
    assert not place.exists()


@pytest.mark.parametrize("asked", ["yolo11s", "yolov8n", "yolo11n-pose"])
def test_weights_of_another_network_are_refused(folder, asked):
    path = engine(folder, "yolo11n").weights_from
    with pytest.raises(WrongArchitectureError, match="yolo11n"):
        Ultralytics(path, architecture=asked).load()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda net: setattr(net.model[9].cv1, "act", torch.nn.Identity()), r"class of layer 'model\.9\.cv1\.act'"),
        (lambda net: setattr(net.model[2].m[0], "add", False), r"add of layer 'model\.2\.m\.0'"),
        (lambda net: setattr(net.model[12], "f", [-1, 4]), r"f of layer 'model\.12'"),
        (lambda net: setattr(net.model[0].conv, "stride", (1, 1)), r"stride of layer 'model\.0\.conv'"),
    ],
    ids=["activation", "shortcut", "route", "stride"],
)
def test_a_network_that_differs_where_no_tensor_shows_is_refused(folder, tmp_path, change, place):
    path = rewritten(folder, tmp_path / "yolo11n.pt", lambda content: change(content["model"]))
    with pytest.raises(WrongArchitectureError, match=place):
        Ultralytics(path).load()


def test_a_network_that_knows_no_people_is_refused(folder, tmp_path):
    def rename(content):
        content["model"].names = dict(enumerate(["cat"] * 80))

    path = rewritten(folder, tmp_path / "yolo11n.pt", rename)
    with pytest.raises(WrongArchitectureError, match="none of the network's 80 classes is 'person'"):
        Ultralytics(path).load()


def test_a_file_without_a_network_is_refused(tmp_path):
    path = tmp_path / "yolo11n.pt"
    torch.save({"state_dict": {"weight": torch.zeros(3)}, checkpoints.MARK: True}, path)
    with pytest.raises(CheckpointError, match="no network of the ultralytics package"):
        Ultralytics(str(path)).load()


def test_random_weights_are_not_used_by_accident(folder, monkeypatch):
    ours = engine(folder)
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS")
    with pytest.raises(RandomWeightsError):
        ours.load()


def test_the_averaged_weights_count_where_training_left_them(folder, tmp_path, noise):
    ensure_ultralytics()

    def training(content):
        averaged = content["model"]
        content["ema"], content["model"] = averaged, None

    path = rewritten(folder, tmp_path / "yolo11n.pt", training)
    here = Ultralytics(path, imgsz=SIDE).detect(noise[:1])[0]
    np.testing.assert_array_equal(here.boxes_N4, engine(folder, "yolo11n").detect(noise[:1])[0].boxes_N4)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        Ultralytics(batch=0)


if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("ultralytics is not installed", allow_module_level=True)

FPS = 30.0
BOTH = pytest.mark.parametrize("kind", [UltralyticsByteTrack, UltralyticsBoTSORT], ids=lambda kind: kind.name)


def found(*people: tuple[float, float, float]) -> Detections:
    """Detections of (x, y, score): boxes 40 wide and 80 high around a centre."""
    boxes = np.array([(x - 20, y - 40, x + 20, y + 40) for x, y, _ in people], np.float32).reshape(-1, 4)
    return Detections(boxes_N4=boxes, scores_N=np.array([score for *_, score in people], np.float32))


def follow(tracker, detections, *, fps: float = FPS, frames=None):
    if frames is None:
        frames = np.zeros((len(detections), 240, 320, 3), np.uint8)
    return tracker.track(detections, np.arange(len(detections)) / fps, layout=None, frames_THW3=frames)


@pytest.fixture(scope="module")
def half_a_second(media) -> np.ndarray:
    path, engine = media / "people.mp4", PyAV()
    facts = engine.probe(path)
    blocks = list(engine.frames(path, facts, span=None, size=(facts.width // 2 * 2, facts.height // 2 * 2)))
    return np.concatenate([block.frames_THW3 for block in blocks])


def package_scores(kind, detections: list[Detections], frames: np.ndarray) -> np.ndarray:
    """(M, T) scores of the package's own tracker with the package's own settings, longest track first."""
    ensure_ultralytics("lap")
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.track import TRACKER_MAP
    from ultralytics.utils import YAML
    from ultralytics.utils.checks import check_yaml

    own = kind.name.removeprefix("ultralytics-")
    tracker = TRACKER_MAP[own](SimpleNamespace(**YAML.load(check_yaml(f"{own}.yaml"))))
    rows: dict[int, np.ndarray] = {}
    for t, (one, frame) in enumerate(zip(detections, frames, strict=True)):
        boxes = np.column_stack([one.boxes_N4, one.scores_N, np.zeros(len(one.scores_N), np.float32)])
        for row in tracker.update(Boxes(boxes.astype(np.float32), frame.shape[:2]), frame[..., ::-1].copy()):
            rows.setdefault(int(row[4]), np.zeros(len(frames), np.float32))[t] = row[5]
    return in_order(rows)


def in_order(rows: dict[int, np.ndarray]) -> np.ndarray:
    """Longest first, then the one that begins first; ids break ties, as both number tracks in the order they begin."""
    return np.array([rows[i] for i in sorted(rows, key=lambda i: (-(rows[i] > 0).sum(), np.argmax(rows[i] > 0), i))])


@BOTH
def test_ids_are_the_packages_on_real_people(half_a_second, kind):
    detector = MoveNet(imgsz=256, conf=0.05)
    weights_or_skip(*detector.weights)
    detections = detector.detect(half_a_second)
    tracks = follow(kind(fewest_frames=1), detections, frames=half_a_second)
    assert tracks.people >= 1
    np.testing.assert_array_equal(tracks.scores_MT, package_scores(kind, detections, half_a_second))


@BOTH
def test_ids_are_the_packages_in_a_crowd_that_comes_and_goes(kind):
    rng = np.random.default_rng(3)
    starts, speeds = rng.uniform(30, 290, (12, 2)), rng.normal(0, 3, (12, 2))
    detections = []
    for t in range(90):
        there = [i for i in range(12) if rng.random() < 0.85]
        places = starts[there] + t * speeds[there] + rng.normal(0, 2, (len(there), 2))
        detections.append(
            found(*((x, y, s) for (x, y), s in zip(places, rng.uniform(0.05, 1, len(there)), strict=True)))
        )
    blocks = rng.integers(0, 256, (90, 12, 16, 3), dtype=np.uint8)
    frames = blocks.repeat(20, axis=1).repeat(20, axis=2)
    tracks = follow(kind(fewest_frames=1), detections, frames=frames)
    assert tracks.people > 12  # some were lost and came back as somebody else
    np.testing.assert_array_equal(tracks.scores_MT, package_scores(kind, detections, frames))


@pytest.mark.slow
@BOTH
def test_ids_are_those_of_the_packages_track(half_a_second, tmp_path, kind):
    """Detector and tracker together against ``YOLO.track``."""
    path = random_weights.write(tmp_path / "yolo11n.pt")
    detector = Ultralytics(str(path), imgsz=256, conf=0.1, batch=1)
    assert people_as_tracked(kind, detector, half_a_second, detector.detect(half_a_second)) > 5


@pytest.fixture(
    scope="module",
    params=[("noFight/noFight_nofi050.mp4", 7), ("fight/fight_fi050.mp4", 4)],
    ids=["crossing", "fight"],
)
def seen(request, shared_frames):
    """Frames of a film, how many people there are at least, a detector with its makers' weights, and what it found."""
    video, people = request.param
    detector = Ultralytics("yolo11n-pose", conf=0.1, imgsz=480, batch=1)
    weights_or_skip(*detector.weights)
    frames = shared_frames(f"surveillance/{video}")
    return frames, people, detector, detector.detect(frames)


@BOTH
@pytest.mark.data
@pytest.mark.slow
def test_with_published_weights_too_ids_are_those_of_the_packages_track(seen, kind):
    frames, people, detector, detections = seen
    assert people_as_tracked(kind, detector, frames, detections) >= people


def people_as_tracked(kind, detector: Ultralytics, frames: np.ndarray, detections: list[Detections]) -> int:
    """How many people there are among ``detections``, those of ``detector``, after the tracks of each are compared with
    those of ``YOLO.track``."""
    tracks = follow(kind(fewest_frames=1), detections, frames=frames)
    from ultralytics import YOLO

    model, rows = YOLO(locate(detector.weights_from)), {}
    settings = {"conf": detector.conf, "iou": detector.iou, "imgsz": detector.imgsz, "max_det": detector.max_det}
    name = kind.name.removeprefix("ultralytics-")
    for t, frame in enumerate(frames):
        picture = np.ascontiguousarray(frame[..., ::-1])
        boxes = model.track(
            picture,
            persist=True,
            tracker=f"{name}.yaml",
            classes=[0],
            device="cpu",
            verbose=False,
            save=False,
            **settings,
        )[0].boxes
        for identity, score in zip(
            () if boxes.id is None else boxes.id.int().tolist(), boxes.conf.numpy(), strict=False
        ):
            rows.setdefault(identity, np.zeros(len(frames), np.float32))[t] = score
    np.testing.assert_array_equal(tracks.scores_MT, in_order(rows))
    return tracks.people


@BOTH
def test_a_newcomer_shifts_nobodys_identity(kind):
    """The case of :mod:`tests.posecap.engines.test_bytetrack`: the package's matching is gated before it is solved."""

    def boxes(*lefts: float) -> Detections:
        boxes_N4 = np.array([(x + 80, 20, x + 180, 220) for x in lefts], np.float32).reshape(-1, 4)
        return Detections(boxes_N4=boxes_N4, scores_N=np.full(len(lefts), 1, np.float32))

    tracks = follow(kind(), [*[boxes(0, 62)] * 10, *[boxes(25, -68)] * 3])
    seen_T = tracks.scores_MT[0] > 0
    assert tracks.boxes_MT4[0, seen_T, 0].tolist() == [80.0] * 10 + [105.0] * 3


@BOTH
@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_how_long_a_person_may_be_lost_is_counted_in_seconds(kind, fps):
    away = range(round(fps), round(1.5 * fps))  # for half a second
    detections = [found() if t in away else found((160, 120, 0.9)) for t in range(round(3 * fps))]
    assert follow(kind(track_buffer_seconds=0.7), detections, fps=fps).people == 1
    assert follow(kind(track_buffer_seconds=0.3), detections, fps=fps).people == 2


@BOTH
def test_doubtful_detections_continue_a_track_and_begin_none(kind):
    detections = [found((100, 100, 0.9 if t < 10 else 0.15), (250, 100, 0.15)) for t in range(20)]
    tracks = follow(kind(), detections)
    assert tracks.people == 1
    np.testing.assert_allclose(tracks.scores_MT[0], [0.9] * 10 + [0.15] * 10)


@BOTH
def test_short_tracks_are_dropped(kind):
    detections = [found((100, 100, 0.9), *([(250, 100, 0.9)] if t < 4 else [])) for t in range(20)]
    assert follow(kind(fewest_frames=4), detections).people == 2
    assert follow(kind(fewest_frames=5), detections).people == 1


def shaken() -> tuple[list[Detections], np.ndarray]:
    """A person who stands before a textured wall, seen by a camera that jumps to and fro by more than their width."""
    rng = np.random.default_rng(5)
    wall = rng.integers(0, 256, (12, 24, 3), dtype=np.uint8).repeat(24, axis=0).repeat(24, axis=1)
    offsets = [0, 0, 45] * 7
    frames = np.stack([wall[20:260, x : x + 320] for x in offsets])
    return [found((200.0 - x, 120.0, 0.9)) for x in offsets], frames


def test_botsort_takes_the_cameras_motion_out():
    detections, frames = shaken()

    def frames_seen(tracker) -> int:
        return int((follow(tracker, detections, frames=frames).scores_MT[0] > 0).sum())

    assert frames_seen(UltralyticsBoTSORT()) == 21
    assert frames_seen(UltralyticsBoTSORT(camera="none")) == 14  # every third frame they are somebody else
    assert frames_seen(UltralyticsByteTrack()) == 14


@pytest.mark.parametrize("camera", ["sparseOptFlow", "orb", "sift", "ecc", "none"])
def test_botsort_gives_the_same_answer_every_time(camera):
    detections, frames = shaken()
    tracker = UltralyticsBoTSORT(fewest_frames=1, camera=camera)
    first, second = (follow(tracker, detections[:6], frames=frames[:6, ::2, ::2]) for _ in range(2))
    np.testing.assert_array_equal(first.boxes_MT4, second.boxes_MT4)
