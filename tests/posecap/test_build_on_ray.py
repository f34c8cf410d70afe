"""A whole build by Ray's workers into an object store: the bytes of a local build, and no secret anywhere."""

from __future__ import annotations

import http.server
import io
import logging
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from posecap.build import Options, build
from posecap.shards import committed, read_sidecar
from tests import built, object_store, small

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

SECRET = "5ec4e7"
"""In every URI's password and signature below."""

PIPELINE = """\
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from posecap.download.retry import RetryPolicy
from posecap.engines.http import Http
from posecap.pipeline import Pipeline
from posecap.stage import Stage
from posecap.stages.download import Download
from posecap.types import Caption, Sample, Video

import numpy as np

@dataclass(frozen=True)
class Make(Stage):
    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Sample

    def __call__(self, item: Video) -> Iterator[Sample]:
        row = item.row
        if row.label == "dies once" and not Path(BEGUN).exists():
            Path(BEGUN).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if row.label == "fails":
            raise RuntimeError(f"{row.location} cannot be read: {item.path}")
        rng = np.random.default_rng(item.path.stat().st_size)
        facts = {
            "clip_id": item.source_id[:24], "row_id": row.row_id, "uri": row.uri, "source_id": item.source_id,
            "start_seconds": 0.0, "end_seconds": 1.0, "pts_span": [0.0, 0.96], "video_span": [0.0, 1.0],
            "fps": 25.0, "width": 640, "height": 360, "codec": "h264", "frames": 25, "people": 1, "joints": 17,
            "layout": "coco17", "label": row.label, "split": row.split, "license": "CC0-1.0", "source": "made up",
            "quality": {
                "coverage": 1.0, "mean_score": 0.5, "zero_pose_share": 0.0, "jitter": 0.01, "bone_jump_share": 0.0,
                "identity_switches": 0, "motion": 0.3,
            },
            "models": {"decoder": "none"},
        }
        joints, video, text = (rng.random(shape, np.float32) for shape in ((1, 25, 17, 3), 6, (1, 4)))
        yield Sample(
            key=item.source_id[:24], joints_MTJ3=joints, pts_T=np.arange(25) / 25, video_D=video, text_CD=text,
            captions=(Caption("Somebody walks by.", "row"),), facts=facts, video_mp4=item.path.read_bytes(),
        )


http = Http(retry_policy=RetryPolicy(attempts=1))
pipeline = Pipeline(stages=(Download(fetchers=(http,), content="none"), Make()))
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of a server that gives a video for each name, but not for ``gone.mp4``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0]
            body = name.encode() * (100 + int(name.strip("/").partition(".")[0])) if "gone" not in name else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{started.server_address[1]}"
        started.shutdown()


def readable(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Files by name as they are, and what compressed ones hold."""
    for name, content in files.items():
        yield name, content
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
            yield name, f"{table.to_pylist()} {table.schema}".encode()


def test_ray_builds_into_a_store_the_bytes_of_a_local_build_though_a_worker_is_killed_and_writes_no_secret(
    server: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="posecap")
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    labels = ["walks", "dies once", "fails", "walks", "gone", "walks", "walks"]
    videos = [f"http://me:{SECRET}@{server}/{'gone' if label == 'gone' else n}.mp4" for n, label in enumerate(labels)]
    rows = [
        {"id": f"row-{n}", "video": f"{video}?v=1&X-Amz-Signature={SECRET}", "label": label}
        for n, (video, label) in enumerate(zip(videos, labels, strict=True))
    ]
    path = small.manifest(tmp_path / "manifest", rows, rows_per_part=3, store_video="clip")
    begun = tmp_path / "begun"
    (path.parent / "pipeline.py").write_text(PIPELINE.replace("BEGUN", repr(str(begun))))
    begun.touch()
    local = small.build(path, output=tmp_path / "local")
    begun.unlink()

    messages: list[str] = []
    # The paths of Ray's sockets, in its folder, must be short.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        chosen = Options(runner="ray", workers=1)
        on_ray = build(path, output=f"{bucket}/poses", options=chosen, log=messages.append)
        of_ray = {str(file): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
    assert begun.exists()
    assert small.published(on_ray.location) == small.published(local.root)
    assert on_ray.report["counts"] == local.report["counts"]
    found = {
        row["row_id"]: row for part in committed(on_ray.location) for row in read_sidecar(on_ray.location, part)["rows"]
    }
    assert [found[f"row-{number}"]["reason"] for number in (1, 2, 4)] == ["", "error", "not_found"]
    assert found["row-2"]["detail"].startswith(f"RuntimeError: http://{server}/2.mp4?v=1 cannot be read: http://")

    said = capfd.readouterr()
    texts = {"messages": "\n".join(messages), "log": caplog.text, "output": said.out + said.err}
    in_store = built.files(bucket)
    assert any("/poses/index/" in f"/{name}" for name in in_store)
    written = {**in_store, **built.files(tmp_path / "cache"), **built.files(tmp_path / "local"), **of_ray}
    written.update({name: text.encode() for name, text in texts.items()})
    secrets = [SECRET, *(object_store.ENVIRONMENT[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))]
    assert not [
        (name, secret) for name, content in readable(written) for secret in secrets if secret.encode() in content
    ]
