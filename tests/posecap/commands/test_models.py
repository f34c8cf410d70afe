from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import MappingProxyType

import pytest

from posecap import models
from posecap.cli import main
from posecap.weights import registry
from posecap.weights.registry import Weights

NET = b"weights of a network"
SHA = hashlib.sha256(NET).hexdigest()

PIPELINE = """
from dataclasses import dataclass
from posecap.engines.efficientnet import EfficientNetLite0
from posecap.engines.http import Http
from posecap.pipeline import Pipeline
from posecap.stage import Stage
from posecap.types import Row, Sample

@dataclass(frozen=True)
class Net(EfficientNetLite0):
    @property
    def weights(self):
        return ("net", "other")

@dataclass(frozen=True)
class All(Stage):
    name, takes, gives = "all", Row, Sample
    engine: Net = Net()
    def __call__(self, item):
        yield item

pipeline = Pipeline((All(),))
"""


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two weights; one has no hash yet. Nothing can be downloaded."""
    net = Weights(
        name="net",
        uri="https://nowhere.invalid/net.pt",
        sha256=SHA,
        size_bytes=len(NET),
        license="AGPL-3.0",
        about="a network",
        used_by=("engine",),
        maker="somebody",
    )
    other = Weights(
        name="other",
        uri="https://nowhere.invalid/other.pt",
        sha256="",
        size_bytes=5_600_000,
        license="Apache-2.0",
        about="another",
        used_by=("engine",),
        maker="somebody",
    )
    every = MappingProxyType({"net": net, "other": other})
    monkeypatch.setattr(models, "REGISTRY", every)
    monkeypatch.setattr(registry, "REGISTRY", every)
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POSECAP_OFFLINE", "1")
    monkeypatch.delenv("POSECAP_WEIGHTS", raising=False)


@pytest.fixture
def usb(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    folder.mkdir()
    (folder / "net.pt").write_bytes(NET)
    (folder / "other.pt").write_bytes(b"other")
    return folder


def test_a_table_of_what_there_is(capsys: pytest.CaptureFixture[str], usb: Path) -> None:
    assert main(["models", "pull", "net", "--from", str(usb)]) == 0
    capsys.readouterr()
    assert main(["models", "list"]) == 0
    head, net, other, _, *note = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "SIZE", "HERE", "HASH", "USED", "BY", "FROM", "MAKER", "LICENSE"]
    assert net.split() == ["net", "0.0", "MB", "here", "full", "engine", "nowhere.invalid", "somebody", "AGPL-3.0"]
    assert other.split() == [
        "other",
        "5.6",
        "MB",
        "-",
        "first",
        "use",
        "engine",
        "nowhere.invalid",
        "somebody",
        "Apache-2.0",
    ]
    assert note[0].startswith("HERE: on this machine. HASH")


def test_everything_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["models", "list", "--json"]) == 0
    net, other = json.loads(capsys.readouterr().out)
    assert net["path"] == str(tmp_path / "cache" / "weights" / "net" / "net.pt")
    assert (net["here"], net["sha256"], net["address"]) == (False, SHA, "https://nowhere.invalid/net.pt")
    assert (other["sha256"], other["license"], other["size_bytes"]) == ("", "Apache-2.0", 5_600_000)


def test_pull_from_a_folder_tells_license_and_new_pin(capsys: pytest.CaptureFixture[str], usb: Path) -> None:
    assert main(["models", "pull", "net", "other", "--from", str(usb)]) == 0
    net, other, pin = capsys.readouterr().out.splitlines()
    assert net.startswith("net  ")
    assert net.endswith("  AGPL-3.0")
    assert other.endswith("  Apache-2.0")
    assert pin == f"  from now on pinned to SHA-256 {hashlib.sha256(b'other').hexdigest()}"


def test_what_fails_does_not_stop_the_rest(capsys: pytest.CaptureFixture[str], usb: Path) -> None:
    (usb / "net.pt").write_bytes(b"damaged")
    assert main(["models", "pull", "net", "other", "--from", str(usb)]) == 1
    said = capsys.readouterr()
    assert "weights 'net'" in said.err
    assert "was not kept" in said.err
    assert said.out.startswith("other  ")


def test_pull_what_a_pipeline_needs(capsys: pytest.CaptureFixture[str], usb: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PIPELINE)
    assert main(["models", "pull", "--pipeline", str(tmp_path / "mine.py"), "--from", str(usb)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["net", "other", "from"]


def test_pull_offline_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "net"]) == 1
    said = capsys.readouterr().err
    assert "POSECAP_OFFLINE forbids" in said
    assert "Fetch https://nowhere.invalid/net.pt" in said


def test_wrong_usage(capsys: pytest.CaptureFixture[str], usb: Path) -> None:
    assert main(["models", "pull"]) == 2
    assert "name the weights to pull" in capsys.readouterr().err
    assert main(["models", "pull", "net", "other", "--from", str(usb / "net.pt")]) == 2
    assert "is one file" in capsys.readouterr().err
    assert main(["models", "pull", "nett"]) == 1
    assert "did you mean net?" in capsys.readouterr().err
    assert main(["models", "verify", "other"]) == 1
    assert "other is not on this machine; run `posecap models pull other`" in capsys.readouterr().err


def test_verify_finds_damage(capsys: pytest.CaptureFixture[str], usb: Path, tmp_path: Path) -> None:
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out == "0 of 0 sound\n"
    assert main(["models", "pull", "net", "other", "--from", str(usb)]) == 0
    capsys.readouterr()
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 sound"
    place = tmp_path / "cache" / "weights" / "net" / "net.pt"
    place.write_bytes(NET[:-1])
    assert main(["models", "verify"]) == 1
    net, _, last = capsys.readouterr().out.splitlines()
    assert net.startswith(f"net  damaged: {place} is another file, or damaged; delete it")
    assert net.endswith("then run `posecap models pull net`")
    assert last == "1 of 2 sound"


def test_help_of_each_action(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["models"], ["models", "pull"], ["models", "list"], ["models", "verify"]):
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: posecap {' '.join(words)}")
