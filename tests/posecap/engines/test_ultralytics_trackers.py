"""The package's trackers through posecap and by themselves: the same people, on real frames and on made-up ones."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from posecap.engines.movenet import MoveNet
from posecap.engines.pyav import PyAV
from posecap.engines.ultralytics import Ultralytics
from posecap.engines.ultralytics_trackers import UltralyticsBoTSORT, UltralyticsByteTrack
from posecap.inference.package_compat import ensure_ultralytics
from posecap.interfaces import Detections
from posecap.models import locate
from tests.models_at_hand import weights_or_skip
from tests.random_weights import ultralytics as random_weights

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


@BOTH
def test_ids_are_those_of_the_packages_track(half_a_second, tmp_path, kind):
    """Detector and tracker together against ``YOLO.track``."""
    path = random_weights.write(tmp_path / "yolo11n.pt")
    assert people_as_tracked(kind, Ultralytics(str(path), imgsz=256, conf=0.1, batch=1), half_a_second) > 5


@BOTH
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("video", "people"),
    [("surveillance/noFight/noFight_nofi050.mp4", 7), ("surveillance/fight/fight_fi050.mp4", 4)],
    ids=["crossing", "fight"],
)
def test_with_published_weights_too_ids_are_those_of_the_packages_track(shared_frames, kind, video, people):
    detector = Ultralytics("yolo11n-pose", conf=0.1, batch=1)
    weights_or_skip(*detector.weights)
    assert people_as_tracked(kind, detector, shared_frames(video)) >= people


def people_as_tracked(kind, detector: Ultralytics, frames: np.ndarray) -> int:
    """How many people there are, after the tracks of each are compared with those of ``YOLO.track``."""
    tracks = follow(kind(fewest_frames=1), detector.detect(frames), frames=frames)
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
