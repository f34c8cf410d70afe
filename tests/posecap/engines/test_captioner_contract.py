"""What every captioner must do, whatever its weights: these are tiny and random."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from posecap.files import digest
from posecap.inference.package_compat import ensure_torchvision
from posecap.interfaces import Captioner
from posecap.stage import Engine, configuration
from posecap.stages.caption import WriteCaptions
from tests import building

pytest.importorskip("transformers", reason="needs posecap[caption]")
pytest.importorskip("num2words", reason="needs posecap[caption]")
ensure_torchvision()

from posecap.engines.transformers_captioner import TransformersCaptioner  # noqa: E402
from tests.random_weights import transformers_captioner as random_weights  # noqa: E402


@pytest.fixture(scope="module", params=random_weights.FAMILIES)
def captioner(request, tmp_path_factory) -> Captioner:
    folder = random_weights.FAMILIES[request.param](tmp_path_factory.mktemp("models") / request.param, seed=3)
    made = TransformersCaptioner(
        checkpoint=str(folder), prompts=("What moves?", "How do the arms move?"), longest_tokens=12, sentences=3
    )
    made.load()
    return made


def test_it_is_a_captioner_and_an_engine_with_a_written_form(captioner):
    assert isinstance(captioner, Captioner)
    assert isinstance(captioner, Engine)
    assert len(digest(configuration(captioner))) == 64
    assert captioner.packages
    assert hash(captioner) == hash(fresh(captioner))


def test_sentences_are_text_and_the_same_every_time(captioner):
    clip = building.skeleton(seed=1)
    first, again = captioner.write(clip), captioner.write(clip)
    assert first == again
    assert all(isinstance(sentence, str) and sentence.strip() for sentence in first)


def test_a_new_worker_writes_the_same(captioner):
    clip = building.skeleton(seed=1)
    assert fresh(captioner).write(clip) == captioner.write(clip)


def test_neighbours_do_not_change_a_caption(captioner):
    alone = captioner.write(building.skeleton(seed=2))
    captioner.write(building.skeleton(seed=1, frames=3))
    assert captioner.write(building.skeleton(seed=2)) == alone


@pytest.mark.parametrize("frames", [1, 2, 60])
def test_short_and_long_clips(captioner, frames):
    assert isinstance(captioner.write(building.skeleton(frames=frames)), list)


def test_a_clip_is_left_as_it_was(captioner):
    clip = building.skeleton(seed=4)
    before = clip.frames_THW3.copy(), clip.joints_MTJ3.copy()
    clip.frames_THW3.flags.writeable = False
    captioner.write(clip)
    np.testing.assert_array_equal(clip.frames_THW3, before[0])
    np.testing.assert_array_equal(clip.joints_MTJ3, before[1])


def test_the_stage_records_it_as_origin(captioner):
    (item,) = WriteCaptions(captioners=(captioner,), templates=())(building.skeleton(seed=1, row=building.row()))
    assert [c.origin for c in item.captions] == ["row"] + [captioner.name] * (len(item.captions) - 1)
    assert "/tmp" not in captioner.name


def fresh(captioner: TransformersCaptioner) -> TransformersCaptioner:
    """As a worker gets it: pickled before anything is loaded."""
    return pickle.loads(pickle.dumps(replace(captioner)))
