"""The default pipeline: every model is in a pinned package of the Python package index, and runs on a CPU.

Models: MoveNet MultiPose at three sizes (people and joints), ByteTrack (which of them is the same person from frame to
frame), EfficientNet-Lite0 (video vector), MiniLM (text vectors). Every parameter of a build is in this file; copy it to
change one.
"""

from posecap.download.retry import HostLimits
from posecap.engines.bytetrack import ByteTrack
from posecap.engines.decord import Decord
from posecap.engines.efficientnet import EfficientNetLite0Onnx
from posecap.engines.http import Http
from posecap.engines.local_file import LocalFile
from posecap.engines.minilm import MiniLM
from posecap.engines.movenet import MoveNet
from posecap.engines.multi_scale import MultiScale
from posecap.engines.object_store import ObjectStore
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.engines.registry_package import RegistryPackage
from posecap.interfaces import Limits
from posecap.pipeline import Pipeline
from posecap.stages.caption import WriteCaptions
from posecap.stages.decode import Decode, Split
from posecap.stages.download import Download
from posecap.stages.filter_people import FilterPeople, Prominence
from posecap.stages.pack import Embed, Pack
from posecap.stages.pose import Pose, Skeleton, Track

pipeline = Pipeline(
    stages=(
        Download(
            fetchers=(
                LocalFile(),
                RegistryPackage(),
                # Of a list of web addresses, none may lead into the network of the machine that builds.
                Http(per_host=HostLimits(connections=4), private_addresses="refuse"),
                ObjectStore(),
            ),
            limits=Limits(size_bytes=2 * 1024**3, seconds=600),
            concurrency=8,  # rows at once on each node
        ),
        Split(threshold=42.0, shortest_seconds=0.5, longest_seconds=10.0, row_longest_seconds=60.0),
        Decode(
            prober=PyAV(),
            decoders=(Decord(), PyAV()),
            long_side=512,
            fps_at_most=60.0,
            signature="perceptual",
        ),
        Track(
            # A large input loses people who fill the picture or lie across it, a small one those who are small in it.
            # So every frame is seen at 256 px, a third of the cost of 512, and more is done where that is not enough.
            detector=MultiScale(
                # Longer sides of the model's input in px. MoveNet scores a clear person 0.4 to 0.7; the tracker below
                # starts a track at 0.3 and continues it from 0.15 on.
                small=MoveNet(imgsz=256, conf=0.15),
                large=MoveNet(imgsz=512, conf=0.15),
                close_up=MoveNet(imgsz=224, conf=0.15),
                # A large person is one with whom the tracker may start, and 90 px or more long in the small input: 0.35
                # of the frame's longer side.
                clear=0.3,
                large_person=0.35,
                # Frames. Scenery then costs an eighth of the large input, and who is small is missed only if gone
                # again within a quarter of a second.
                probe_every=8,
                # A person is 180 px long in the close-up: joints fit four cameras best at 160 to 180 px
                # (benchmarks/multiview.py). Who stands fits into 128 px across, at 0.6 of the cost.
                margin=1.25,
                close_up_sides=(224, 128),
                # What the large input alone takes for people scored less than 0.2 from close up in scenery, and 0.25 or
                # more in half of the cases in surveillance footage.
                confirm=0.25,
                same_person=0.6,
                same_place=0.3,
            ),
            # Scores and seconds. Small people often score less than 0.3 before the first frame with more: tracks are
            # followed back to there.
            tracker=ByteTrack(
                track_high_thresh=0.3,
                track_low_thresh=0.15,
                track_buffer_seconds=1.0,
                join_seconds=2.0,
                follow_back="yes",
            ),
        ),
        Pose(estimator="detector"),
        FilterPeople(
            people=2,
            shortest_seconds=0.5,
            fewest_frames=8,
            prominence=Prominence(presence=1.5, size=1.0, motion=1.0, closeness=1.0, lively=0.2),
        ),
        Skeleton(layout="coco17"),
        WriteCaptions(most=5, fewest=1, label_grammar="english"),
        Embed(video=EfficientNetLite0Onnx(frames=8), text=MiniLM()),
        Pack(encoder=PyAVEncoder(), thumbnail_side=320),
    ),
    # Shares of rejected clips, and of labelled rows without a kept clip, above which the build warns.
    expected_rejections={"track": 0.5, "filter_people": 0.6, "labelled": 0.2},
)
