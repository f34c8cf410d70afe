from __future__ import annotations

from typing import Any

import pytest

from posecap.pipeline import Pipeline, PipelineError, load_pipeline
from posecap.shards import INDEX_SCHEMA, WhereError
from posecap.shards.index import index_row
from posecap.stage import Reject
from posecap.stages import filter_clips
from posecap.stages.filter_clips import COLUMNS, FilterClips
from posecap.stages.pack import Pack
from posecap.types import PartName
from tests import ROOT, building


def test_a_clip_for_which_it_holds_goes_on() -> None:
    item = building.skeleton(people=2)
    assert list(FilterClips(where="people == 2 and label == 'walking' and coverage > 0.5")(item)) == [item]


def test_the_reason_names_the_values() -> None:
    with pytest.raises(Reject, match=r"^filtered: M is 2; needs people == 1$") as raised:
        list(FilterClips(where="label != None and people == 1")(building.skeleton(people=2)))
    assert not raised.value.machine_dependent


def test_a_row_that_cannot_pass_is_rejected_before_its_video_is_there() -> None:
    stage = FilterClips(
        where="people == 1 and label in ['squat', 'walking'] and (coverage > 0.5 or label == 'sitting')"
    )
    stage.check_row(building.row(label="walking"))
    with pytest.raises(Reject, match=r"^filtered: label is None; needs label in \['squat', 'walking'\]$"):
        stage.check_row(building.row(label=None))


def test_it_sees_what_the_index_will_have() -> None:
    item: Any = building.embedded(people=2)
    (sample,) = Pack(thumbnail_side=0)(item)
    row = dict(zip(INDEX_SCHEMA.names, index_row(sample, PartName("train", 0), {}, {}), strict=True))
    assert filter_clips._row(item) == {name: row[name] for name in COLUMNS}


def test_what_is_not_known_yet_is_left_to_readers() -> None:
    with pytest.raises(WhereError, match=r"^where: captions is not known before captions .* posecap.open\(where="):
        FilterClips(where="'a' in captions and people == 1")


def test_a_manifest_s_filter_stands_behind_the_skeletons() -> None:
    plain = load_pipeline(ROOT / "pipelines" / "default.py")
    assert plain.filtered("") is plain
    filtered = plain.filtered("people == 1")
    names = [stage.name for stage in filtered.stages]
    assert names[names.index("skeleton") : names.index("caption") + 1] == ["skeleton", "filter_clips", "caption"]
    assert filtered.fingerprint() != plain.fingerprint()
    with pytest.raises(PipelineError, match=r"a stage that gives a SkeletonClip, as Skeleton\(\) does"):
        Pipeline(stages=[_Whole()]).filtered("people == 1")


class _Whole(Pack):
    takes = building.Row
