"""PoseCap-1M's construction with the field's own engines, for machines with GPUs.

YOLO11 finds people, BoT-SORT follows them, RTMPose gives COCO-17 joints, ViCLIP L/14 the vectors of video and text.
Needs `pip install 'posecap[build,ultralytics,mmpose,clip,youtube]'` and, once,
`posecap models pull --pipeline pipelines/posecap_1m.py`.

The paper names ViCLIP and skeletons tracked in video, but states no resolution, threshold, model size, clip length or
number of people. A comment `ours` marks parameters that this project has chosen; copy the file to choose others. An
engine is replaced in one line. Without ultralytics, whose license is AGPL-3.0, this does the same job under Apache-2.0:
`Track(detector=RTMDetOnnx(size="m"), tracker=ByteTrack())`; without MMPose, `Pose(estimator=RTMPoseOnnx(size="m"))`.
"""

from posecap.download.retry import HostLimits
from posecap.engines.decord import Decord
from posecap.engines.http import Http
from posecap.engines.local_file import LocalFile
from posecap.engines.mmpose import RTMPose
from posecap.engines.object_store import ObjectStore
from posecap.engines.pyav import PyAV
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.engines.ultralytics import Ultralytics, UltralyticsBoTSORT
from posecap.engines.viclip import ViCLIPEmbedder
from posecap.engines.ytdlp import YtDlp
from posecap.interfaces import Limits
from posecap.pipeline import Pipeline
from posecap.stage import Resources
from posecap.stages.caption import WriteCaptions
from posecap.stages.decode import Decode, Split
from posecap.stages.download import Download
from posecap.stages.filter_people import FilterPeople
from posecap.stages.pack import Embed, Pack
from posecap.stages.pose import Pose, Skeleton, Track

pipeline = Pipeline(
    stages=(
        Download(
            fetchers=(
                YtDlp(  # ours
                    height=480, stretch="span", margin_seconds=1.0, requests_per_minute=15, connections=4
                ),
                LocalFile(),
                Http(  # ours
                    per_host=HostLimits(connections=4, requests_per_second=10.0), private_addresses="refuse"
                ),
                ObjectStore(),
            ),
            limits=Limits(size_bytes=1 * 1024**3, seconds=600),  # ours
            concurrency=32,  # ours; rows at once on each node
        ),
        # Rows with a span stay whole; other videos are cut into shots of 2 to 10 seconds, Kinetics' length at most.
        Split(threshold=42.0, shortest_seconds=2.0, longest_seconds=10.0, row_longest_seconds=60.0),  # ours
        Decode(
            prober=PyAV(),
            decoders=(Decord(), PyAV()),
            long_side=854,  # ours
            fps_at_most=30.0,  # ours
            signature="perceptual",
        ),
        Track(
            detector=Ultralytics(weights_from="yolo11m", conf=0.25, iou=0.7, imgsz=640, batch=64),  # ours
            tracker=UltralyticsBoTSORT(
                track_high_thresh=0.25, track_low_thresh=0.1, begin=0.25, track_buffer_seconds=1.0
            ),  # ours
        ),
        Pose(estimator=RTMPose(size="m", joints="coco17", flip_test="on", batch=256)),  # ours
        FilterPeople(  # ours, all of it; two people as in UNIK's data
            people=2,
            fewest_frames=16,
            shortest_seconds=1.0,
            joint_score=0.3,
            confident_joints_share=0.5,
            person_presence=0.2,
            confident_frames_share=0.4,
            motion=0.02,
            prominence=None,
        ),
        Skeleton(layout="coco17"),
        WriteCaptions(  # ours: the row's own captions, then its label as it is and in two templates
            templates=("{}", "a person is {}", "a video of a person {}"),
            label_grammar="none",
            longest_characters=300,
            most=8,
            fewest=1,
        ),
        Embed(video=ViCLIPEmbedder(weights_from="viclip-l14"), text=ViCLIPEmbedder(weights_from="viclip-l14")),
        Pack(encoder=PyAVEncoder(), thumbnail_side=320),
    ),
    # Shares of rejected clips above which the build warns: many of the clips of any list of web videos show nobody, or
    # somebody for a moment only.
    expected_rejections={"track": 0.3, "filter_people": 0.4},
    # One worker a GPU: while the frames of one clip are on it, seven others are being decoded.
    worker=Resources(cpus=8, gpus=1, concurrency=8),
)
