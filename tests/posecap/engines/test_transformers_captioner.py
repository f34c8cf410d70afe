"""Against transformers' own pipeline on the same random weights, and the checkpoints that must be refused."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from posecap.files import file_sha256
from posecap.inference.device import Batches
from posecap.inference.package_compat import ensure_torchvision
from posecap.models import MissingWeightsError
from posecap.stage import TransientError
from posecap.types import Tracks
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError
from tests import building

pytest.importorskip("transformers", reason="needs posecap[caption]")
pytest.importorskip("num2words", reason="needs posecap[caption]")
ensure_torchvision()

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaConfig, LlamaForCausalLM, pipeline  # noqa: E402

from posecap.engines.transformers_captioner import TransformersCaptioner, sentences_of  # noqa: E402
from tests.random_weights import transformers_captioner as random_weights  # noqa: E402

SAID = " a man raises both arms. his head turns slowly!"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    made = {name: write(base / name, seed=5) for name, write in random_weights.FAMILIES.items()}
    return {**made, "reciting": random_weights.qwen2_vl(base / "reciting", saying=SAID)}


@pytest.fixture
def copied(folders, tmp_path) -> Path:
    """A sound checkpoint, to be spoilt."""
    return Path(shutil.copytree(folders["smolvlm"], tmp_path / "spoilt"))


def captioner(folder: Path | str, **settings) -> TransformersCaptioner:
    return TransformersCaptioner(checkpoint=str(folder), **{"longest_tokens": 20, **settings})


# What it says


@pytest.mark.parametrize("family", random_weights.FAMILIES)
def test_the_answer_is_that_of_transformers_own_pipeline(folders, family):
    clip = building.skeleton(frames=16, seed=7)
    mine = captioner(folders[family], view="frame", frames=4)
    ((text, end),) = mine._answer([(mine._pictures(clip), "What do the arms do?")])

    network = AutoModelForImageTextToText.from_pretrained(folders[family], dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folders[family])
    if family == "idefics3":  # the one whose pictures would be split here
        processor.image_processor.do_image_splitting = False
    pictures = [{"type": "image", "image": Image.fromarray(clip.frames_THW3[t])} for t in (1, 5, 9, 13)]
    chat = [{"role": "user", "content": [*pictures, {"type": "text", "text": "What do the arms do?"}]}]
    theirs = pipeline("image-text-to-text", model=network, processor=processor, device="cpu")(
        text=chat, return_full_text=False, generate_kwargs={"do_sample": False, "max_new_tokens": 20}
    )
    assert len(text) > 10
    assert text == theirs[0]["generated_text"]
    assert end in ("complete", "cut off")


def test_the_frames_are_looked_at(folders):
    mine = captioner(folders["smolvlm"])
    dark, bright = (np.full((8, 36, 64, 3), level, np.uint8) for level in (10, 240))
    said = [mine._answer([(mine._pictures(building.skeleton(frames_THW3=f)), "?")])[0][0] for f in (dark, bright)]
    assert said[0] != said[1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["a man raises both arms."]),
        ({"sentences": 2}, ["a man raises both arms.", "his head turns slowly!"]),
        ({"sentences": 2, "longest_tokens": 9}, ["a man raises both arms."]),
        ({"longest_tokens": 4}, []),
        ({"prompts": ("What moves?", "How do the arms move?")}, ["a man raises both arms."] * 2),
    ],
    ids=["one", "two", "second cut off", "first cut off", "two prompts"],
)
def test_an_answer_becomes_sentences(folders, settings, expected):
    assert captioner(folders["reciting"], **settings).write(building.skeleton()) == expected


def test_what_a_checkpoint_suggests_for_sampling_does_not_count(folders, copied):
    content = json.loads((copied / "generation_config.json").read_text())
    sampling = {"do_sample": True, "temperature": 3.0, "top_k": 500, "top_p": 0.99}
    (copied / "generation_config.json").write_text(json.dumps({**content, **sampling}))
    clip = building.skeleton()
    greedy, suggested = captioner(folders["smolvlm"]), captioner(copied)
    assert suggested._answer([(suggested._pictures(clip), "?")]) == greedy._answer([(greedy._pictures(clip), "?")])


def test_frames_are_not_split_into_tiles(folders):
    mine = captioner(folders["idefics3"])
    inputs = mine._inputs([(mine._pictures(building.skeleton(frames=3)), "?")])
    assert inputs["pixel_values"].shape == (1, 3, 3, 28, 28)


def test_a_prompt_is_filled_in(folders, monkeypatch):
    mine = captioner(folders["smolvlm"], prompts=("{frames} of {seconds} s {other}",), frames=3)
    asked = []
    monkeypatch.setattr(TransformersCaptioner, "_answer", lambda self, q: asked.extend(q) or [("x", "complete")])
    mine.write(building.skeleton(pts_T=[1.0, 1.5, 2.0, 2.5, 3.25]))
    assert [prompt for _, prompt in asked] == ["3 of 2.2 s {other}"]


# What it sees


def test_middle_frames_of_equal_stretches(folders):
    numbered = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 8, 8, 3))
    mine = captioner(folders["smolvlm"], view="frame")
    assert [p.getpixel((0, 0))[0] for p in mine._pictures(building.skeleton(frames_THW3=numbered))] == [
        *(5, 18, 30, 43, 55, 68, 80, 93)
    ]
    assert [p.getpixel((0, 0))[0] for p in mine._pictures(building.skeleton(frames_THW3=numbered[:3]))] == [0, 1, 2]


def tracked(boxes: list[list[float]], scores: list[float], **changes):
    """One person in as many frames as there are boxes."""
    tracks = Tracks(boxes_MT4=np.array([boxes], np.float32), scores_MT=np.array([scores], np.float32))
    frames = np.zeros((len(boxes), 360, 640, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.arange(640) % 256, np.arange(360)[:, None] % 256
    return building.skeleton(frames_THW3=frames, tracks=tracks, **changes)


def test_people_are_shown_with_a_margin(folders):
    media = replace(building.clip().media, width=1280, height=720)
    # Together x 200..400 and y 100..300 of the source, so 100..200 and 50..150 here; 15 of 100 pixels on every side.
    clip = tracked([[200, 140, 300, 300], [300, 100, 400, 260], [0, 0, 0, 0]], [0.9, 0.8, 0], media=media)
    for picture in captioner(folders["smolvlm"])._pictures(clip):
        assert picture.size == (130, 130)
        assert picture.getpixel((0, 0))[:2] == (85, 35)


def test_large_pictures_are_scaled_down(folders):
    (picture,) = captioner(folders["smolvlm"], view="frame", longest_side=320)._pictures(tracked([[0, 0, 9, 9]], [1]))
    assert picture.size == (320, 180)


# Many at once


def test_a_batch_that_does_not_fit_is_halved(folders, monkeypatch):
    mine = captioner(folders["reciting"], prompts=("One?", "And two?", "And what of three?", "Four?"))
    alone = mine.write(building.skeleton())
    sizes, generate = [], mine._network.generate

    def short_of_memory(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return generate(**inputs)

    monkeypatch.setattr(mine._network, "generate", short_of_memory)
    mine.__dict__["_batches"] = Batches(4)
    assert mine.write(building.skeleton()) == alone == ["a man raises both arms."] * 4
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_not_even_one_fits(folders, monkeypatch):
    def no_memory(**inputs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    mine = captioner(folders["reciting"])
    monkeypatch.setattr(mine._network, "generate", no_memory)
    with pytest.raises(TransientError, match="out_of_memory"):
        mine.write(building.skeleton())


def test_questions_of_different_length_in_one_batch(folders):
    mine = captioner(folders["smolvlm"], frames=2)
    pictures = mine._pictures(building.skeleton())
    questions = [(pictures, "What moves?"), (pictures, "How do the arms and then the legs move?")]
    together = mine._answer(questions)
    assert together == [mine._answer([question])[0] for question in questions]
    assert together[0] != together[1]


@pytest.mark.parametrize("family", random_weights.FAMILIES)
def test_clips_of_different_length_in_one_batch(folders, family):
    mine = captioner(folders[family])
    questions = [(mine._pictures(building.skeleton(frames=n, seed=n)), "What moves?") for n in (1, 3, 2)]
    assert mine._answer(questions) == [mine._answer([question])[0] for question in questions]


def test_threads_share_one_model(folders):
    mine = captioner(folders["reciting"])
    mine.load()
    said: dict[int, list[str]] = {}
    threads = [
        threading.Thread(target=lambda i=i: said.update({i: mine.write(building.skeleton(seed=i, frames=5 + i))}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {i: ["a man raises both arms."] for i in range(4)}


# Names and identity


def test_the_name_tells_model_and_prompts_but_no_place(folders):
    placed, named = captioner(folders["smolvlm"]), captioner("HuggingFaceTB/SmolVLM2-500M-Video-Instruct")
    assert placed.name.startswith("transformers:smolvlm#prompt-")
    assert named.name.startswith("transformers:HuggingFaceTB/SmolVLM2-500M-Video-Instruct#prompt-")
    assert placed.name.split("#")[1] == named.name.split("#")[1]
    assert replace(placed, prompts=("Other?",)).name != placed.name


def test_every_file_that_shapes_the_answer_is_named(copied):
    (copied / "README.md").write_text("about")
    names = captioner(copied).weights
    assert [Path(name).name for name in names] == [
        *("chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"),
        *("processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    ]
    assert len({file_sha256(Path(name)) for name in names}) == 7


def test_a_model_in_the_hubs_own_cache(folders, tmp_path, monkeypatch):
    import huggingface_hub.constants

    kept = tmp_path / "models--makers--tiny"
    shutil.copytree(folders["reciting"], kept / "snapshots" / ("c" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("c" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert captioner("makers/tiny").write(building.skeleton()) == ["a man raises both arms."]
    with pytest.raises(MissingWeightsError, match=r"no checkpoint at 'makers/other'.*`hf download makers/other`"):
        captioner("makers/other").load()


@pytest.mark.parametrize("settings", [{"prompts": ()}, {"frames": 0}, {"sentences": 0}, {"batch": 0}])
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError, match="at least one prompt"):
        captioner("x/y", **settings)


# Checkpoints that must be refused


def test_no_folder(tmp_path):
    for ask in (lambda c: c.weights, lambda c: c.load()):
        with pytest.raises(MissingWeightsError, match=r"no checkpoint at .*nothing.*safetensors.*hf download NAME"):
            ask(captioner(tmp_path / "nothing"))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_file_is_missing(copied, missing):
    (copied / missing).unlink()
    with pytest.raises(MissingWeightsError, match=rf"(?s){missing.split('.')[1]}.*download"):
        captioner(copied).load()


def test_a_missing_processor(copied):
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (copied / name).unlink()
    with pytest.raises(CheckpointError, match="spoilt"):
        captioner(copied).load()


def test_a_missing_shard_and_one_outside(copied):
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(MissingWeightsError, match=r"lacks model-00002-of-00002\.safetensors"):
        captioner(copied).load()
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside the folder"):
        captioner(copied).load()


def test_truncated_weights(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is cut off"):
        captioner(copied).load()


class Trap:
    """A pickle whose reading would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_and_never_run(copied, tmp_path):
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match=r"pickle \(pytorch_model\.bin\).*safetensors version"):
        captioner(copied).load()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_in_the_checkpoint_is_never_run(copied, tmp_path, file):
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Strange: pass\n"
    (copied / "strange.py").write_text(code)
    content = json.loads((copied / file).read_text())
    autos = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer", "AutoImageProcessor")
    content["auto_map"] = dict.fromkeys(autos, "strange.Strange")
    if file == "config.json":
        content["model_type"] = "strange"
    (copied / file).write_text(json.dumps(content))
    if file == "config.json":
        with pytest.raises(CheckpointError, match="code out of a checkpoint is never run"):
            captioner(copied).load()
    else:
        captioner(copied).load()
    assert not (tmp_path / "ran").exists()


def test_a_language_model_without_eyes(copied):
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(copied)
    with pytest.raises(WrongArchitectureError, match="'llama' is not a vision-language model"):
        captioner(copied).load()


def test_another_size(copied):
    content = json.loads((copied / "config.json").read_text())
    content["text_config"]["intermediate_size"] = 96
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(WrongArchitectureError, match=r"6 tensors .* of another shape there .*mlp\.down_proj\.weight"):
        captioner(copied).load()


def test_missing_tensors_are_not_filled_with_random_numbers(copied):
    content = json.loads((copied / "config.json").read_text())
    content["text_config"]["num_hidden_layers"] = 3
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(WrongArchitectureError, match=r"9 tensors .* are not in its safetensors files"):
        captioner(copied).load()


def test_no_chat_template(copied):
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(WrongArchitectureError, match="no chat template"):
        captioner(copied).load()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": NaN'])
def test_a_broken_configuration(copied, content):
    for name in ("generation_config.json", "config.json"):
        (copied / name).write_text(content)
        with pytest.raises(CheckpointError, match=rf"{name}"):
            captioner(copied).load()


@pytest.mark.parametrize(
    "template", ["{% for m in messages %}", "{{ messages[0]['content'][-1]['text'] }}", "{{ ''.__class__.__mro__ }}"]
)
def test_a_chat_template_that_takes_no_pictures(copied, template):
    (copied / "chat_template.jinja").write_text(template)
    with pytest.raises(WrongArchitectureError, match="does not take several pictures"):
        captioner(copied).load()


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_a_broken_processor(copied, name):
    (copied / name).write_text("[1]")
    with pytest.raises(CheckpointError, match="cannot read its processor"):
        captioner(copied).load()


def test_random_weights_are_not_used_by_accident(copied, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        captioner(copied).load()


def test_without_the_package(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'posecap\[caption\]'"):
        captioner(copied).load()


# What is kept of a model's answer.


@pytest.mark.parametrize(
    ("answer", "end", "expected"),
    [
        ("She waves.", "complete", ["She waves."]),
        ("She waves with her left hand", "complete", ["She waves with her left hand"]),
        ("She waves with her left", "cut off", []),
        ("She waves. Then she ste", "cut off", ["She waves."]),
        ("  She\n waves. ", "complete", ["She waves."]),
        ("What moves? She waves.", "complete", ["She waves."]),
        ("<think>The arm? Yes.</think>\nShe waves.", "complete", ["She waves."]),
        ("<think>The arm? It seems", "cut off", []),
        (
            "Here is the description:\n\n- **She waves.**\n2. She bends 1.5 times.",
            "complete",
            ["She waves.", "She bends 1.5 times."],
        ),
        ('"She waves." "She bends."', "complete", ["She waves.", "She bends."]),
        ("他举手。他转身。他跳", "cut off", ["他举手。", "他转身。"]),
        ("", "complete", []),
        (" … !", "complete", []),
    ],
)
def test_answers_are_cleaned(answer, end, expected):
    assert sentences_of(answer, most=5, prompt="What moves?", end=end) == expected


def test_only_the_first_sentences_stay():
    assert sentences_of("A. B. C.", most=2, prompt="", end="complete") == ["A.", "B."]
