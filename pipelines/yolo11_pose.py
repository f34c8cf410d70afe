"""People and joints in one pass by YOLO11n-pose, and everything else as in `default`; runs on a CPU.

Needs `pip install 'posecap[build,ultralytics]'`. **The ultralytics package and these weights are under the AGPL-3.0**;
docs/engines.md says what that asks of you. The weights come from their makers' release or, where that is out of reach,
from a package that carries the same file.
"""

from posecap.download.retry import HostLimits
from posecap.engines.decord import Decord
from posecap.engines.efficientnet import EfficientNetLite0Onnx
from posecap.engines.http import Http
from posecap.engines.local_file import LocalFile
from posecap.engines.minilm import MiniLM
from posecap.engines.object_store import ObjectStore
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.engines.registry_package import RegistryPackage
from posecap.engines.ultralytics import Ultralytics, UltralyticsBoTSORT
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
                Http(per_host=HostLimits(connections=4), private_addresses="refuse"),
                ObjectStore(),
            ),
            limits=Limits(size_bytes=2 * 1024**3, seconds=600),
            concurrency=8,
        ),
        Split(threshold=42.0, shortest_seconds=0.5, longest_seconds=10.0, row_longest_seconds=60.0),
        # 640 px is the side that the network was trained at.
        Decode(
            prober=PyAV(),
            decoders=(Decord(), PyAV()),
            long_side=640,
            fps_at_most=60.0,
            signature="perceptual",
        ),
        # Thresholds as in the package's own `track`: people of 0.1 and more continue tracks, those of 0.25 begin them.
        Track(
            detector=Ultralytics(weights_from="yolo11n-pose", conf=0.1, iou=0.7, imgsz=640, batch=1),
            tracker=UltralyticsBoTSORT(
                track_high_thresh=0.25, track_low_thresh=0.1, begin=0.25, track_buffer_seconds=1.0
            ),
        ),
        Pose(estimator="detector"),
        # 0.5 is the score from which the package draws a joint.
        FilterPeople(
            people=2,
            shortest_seconds=0.5,
            fewest_frames=8,
            joint_score=0.5,
            prominence=Prominence(presence=1.5, size=1.0, motion=1.0, closeness=1.0, lively=0.2),
        ),
        Skeleton(layout="coco17"),
        WriteCaptions(most=5, fewest=1, label_grammar="english"),
        Embed(video=EfficientNetLite0Onnx(frames=8), text=MiniLM()),
        Pack(encoder=PyAVEncoder(), thumbnail_side=320),
    ),
    # Shares of rejected clips above which the build warns.
    expected_rejections={"track": 0.5, "filter_people": 0.6},
)
