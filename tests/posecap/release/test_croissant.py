import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from posecap.release.croissant import CROISSANT_FILE, make_croissant
from posecap.release.dataset_info import write_summary
from posecap.shards import INDEX_SCHEMA
from tests import dataset_infos


def document(root: Path, **changes: Any) -> dict[str, Any]:
    return make_croissant(dataset_infos.info(root, **changes), published=date(2026, 5, 1))


def entries(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in found["distribution"] if entry["@type"] == kind]


def test_required_properties(tmp_path: Path):
    found = document(tmp_path, contact="https://example.org/walkers")
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert (found["@type"], found["name"], found["version"]) == ("sc:Dataset", "walkers", "1.2.0")
    assert found["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert found["datePublished"] == "2026-05-01"
    assert found["url"] == found["creator"]["url"] == "https://example.org/walkers"
    assert found["citeAs"] == (
        "@misc{walkers, title={walkers}, edition={1.2.0}, year={2026}, note={https://example.org/walkers}}"
    )


def test_an_e_mail_address_is_no_url(tmp_path: Path):
    found = document(tmp_path, license="our own terms")
    assert "url" not in found
    assert found["creator"] == {"@type": "Organization", "name": "me@example.org", "email": "me@example.org"}
    assert found["license"] == "our own terms"


def test_every_file_is_listed_with_its_hash(tmp_path: Path):
    files = entries(document(tmp_path), "cr:FileObject")
    on_disk = {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.suffix in (".tar", ".columns", ".parquet")
    }
    assert {file["contentUrl"] for file in files} == on_disk
    for file in files:
        content = (tmp_path / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"


@pytest.mark.parametrize("store_video", ["none", "clip"])
def test_file_sets_match_the_files(tmp_path: Path, store_video: str):
    sets = {
        entry["@id"]: entry["includes"] for entry in entries(document(tmp_path, store_video=store_video), "cr:FileSet")
    }
    assert ("videos" in sets) == (store_video == "clip")
    assert {name: len(list(tmp_path.glob(pattern))) for name, pattern in sets.items() if name != "videos"} == {
        "index": 2,
        "samples": 2,
        "columns": 2,
    }


def test_clips_have_a_field_for_every_column_but_places(tmp_path: Path):
    splits, clips = document(tmp_path)["recordSet"]
    fields = {field["name"]: field for field in clips["field"]}
    places = {name for name in INDEX_SCHEMA.names if name.endswith(("_offset", "_size"))}
    assert fields.keys() == set(INDEX_SCHEMA.names) - places
    assert all(field["source"]["extract"] == {"column": name} for name, field in fields.items())
    assert (fields["T"]["dataType"], fields["fps"]["dataType"], fields["key"]["dataType"]) == (
        "sc:Integer",
        "sc:Float",
        "sc:Text",
    )
    assert fields["captions"]["repeated"] is True
    assert fields["license"]["equivalentProperty"] == "https://schema.org/license"
    assert fields["split"]["references"] == {"field": {"@id": "splits/name"}}
    assert splits["data"] == [{"splits/name": "train"}]


def test_identifiers_are_unique_and_every_reference_is_met(tmp_path: Path):
    found = document(tmp_path)
    defined: list[str] = []
    referred: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            if "@id" in node:
                defined.append(node["@id"]) if "@type" in node else referred.add(node["@id"])
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit({key: value for key, value in found.items() if key != "@context"})
    assert len(defined) == len(set(defined))
    assert referred <= set(defined)
    assert {"splits/name", "index", "clips/key"} <= referred


def test_it_is_written_as_json(tmp_path: Path):
    found = document(tmp_path)
    write_summary(tmp_path, CROISSANT_FILE, found)
    assert json.loads((tmp_path / CROISSANT_FILE).read_text()) == found


def test_the_reference_reader_accepts_it(tmp_path: Path):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the reference reader is not installed")
    write_summary(tmp_path, CROISSANT_FILE, document(tmp_path))
    dataset = mlcroissant.Dataset(str(tmp_path / "croissant.json"))
    assert len(list(dataset.records("clips"))) == 5
