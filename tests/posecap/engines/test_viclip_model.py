"""The network against a second, slow writing of what the authors' code computes, and against open_clip's CLIP; the
tokenizer against known ids of CLIP's.
"""

import math
import sys
from importlib.util import find_spec

import pytest
import torch

from posecap.engines import viclip_model
from posecap.engines.viclip_model import VICLIP_B16, VICLIP_L14, ViCLIP, tokenize
from posecap.weights import checkpoints
from posecap.weights.checkpoints import WrongArchitectureError
from tests.random_weights import open_clip as clip_weights
from tests.random_weights import viclip as weights

pytestmark = pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip_torch is not installed")

TEXTS = [
    "a man walks",
    "",
    "Somebody's riding a BIKE &amp; waving, caf\u00c3\u00a9 — 42 times!",
    "a very long sentence about quite different things " * 5,
]


@pytest.fixture(scope="module")
def tensors():
    torch.set_num_threads(1)
    return weights.tensors()


@pytest.fixture(scope="module")
def model(tensors) -> ViCLIP:
    return ViCLIP.from_state_dict(tensors)


def frames(batch: int = 2, times: int = 8, side: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, times, 3, side, side, generator=torch.Generator().manual_seed(seed))


# -- what the authors' code computes, token by token, in float64 ------------------------------------------------------


def norm(x, tensors, name):
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def block(x, tensors, at, *, causal):
    """(L, D) to (L, D), one head at a time, the mask added before the softmax."""
    length, width = x.shape
    q, k, v = (
        (norm(x, tensors, f"{at}.ln_1") @ tensors[f"{at}.attn.in_proj_weight"].T)
        .add(tensors[f"{at}.attn.in_proj_bias"])
        .chunk(3, dim=-1)
    )
    mask = torch.full((length, length), -math.inf).triu(1) if causal else torch.zeros(length, length)
    heads = []
    for head in range(width // 64):
        part = slice(64 * head, 64 * head + 64)
        heads.append((q[:, part] @ k[:, part].T / 8 + mask).softmax(-1) @ v[:, part])
    x = x + torch.cat(heads, -1) @ tensors[f"{at}.attn.out_proj.weight"].T + tensors[f"{at}.attn.out_proj.bias"]
    hidden = norm(x, tensors, f"{at}.ln_2") @ tensors[f"{at}.mlp.c_fc.weight"].T + tensors[f"{at}.mlp.c_fc.bias"]
    hidden = hidden / (1 + (-1.702 * hidden).exp())
    return x + hidden @ tensors[f"{at}.mlp.c_proj.weight"].T + tensors[f"{at}.mlp.c_proj.bias"]


def slow_video(clip, tensors):
    """One clip (T, 3, H, W)."""
    t = {name.removeprefix("vision_encoder."): value.double() for name, value in tensors.items()}
    places, patch = t["positional_embedding"], t["conv1.weight"].shape[-1]
    time = t["temporal_positional_embedding"][0] if len(clip) > 1 else t["temporal_positional_embedding"].mean(1)
    grid = clip.shape[-1] // patch
    tokens = [t["class_embedding"] + places[0]]
    for row in range(grid):
        for column in range(grid):
            for moment in range(len(clip)):
                y, x = row * patch, column * patch
                pixels = clip[moment, :, y : y + patch, x : x + patch].double()
                value = (t["conv1.weight"][:, :, 0] * pixels).sum((1, 2, 3))
                tokens.append(value + places[1 + row * grid + column] + time[moment])
    x = norm(torch.stack(tokens), t, "ln_pre")
    for layer in range(2):
        x = block(x, t, f"transformer.resblocks.{layer}", causal=False)
    vector = norm(x[0], t, "ln_post") @ t["proj"]
    return vector / vector.norm()


def slow_text(ids, tensors):
    """One row of 32 token ids."""
    t = {name.removeprefix("text_encoder."): value.double() for name, value in tensors.items()}
    x = t["token_embedding.weight"][ids] + t["positional_embedding"]
    for layer in range(2):
        x = block(x, t, f"transformer.resblocks.{layer}", causal=True)
    vector = norm(x, t, "ln_final")[ids.tolist().index(49_407)] @ t["text_projection"]
    return vector / vector.norm()


def test_videos_are_what_the_slow_writing_computes(model, tensors):
    clips = frames(2)
    slow = torch.stack([slow_video(clip, tensors) for clip in clips])
    torch.testing.assert_close(model.encode_video(clips).double(), slow, atol=1e-6, rtol=0)


def test_a_single_frame_gets_the_mean_of_the_temporal_embedding(model, tensors):
    clips = frames(1, times=1)
    torch.testing.assert_close(model.encode_video(clips)[0].double(), slow_video(clips[0], tensors), atol=1e-6, rtol=0)


def test_texts_are_what_the_slow_writing_computes(model, tensors):
    slow = torch.stack([slow_text(ids, tensors) for ids in tokenize(TEXTS)])
    torch.testing.assert_close(model.encode_text(TEXTS).double(), slow, atol=1e-6, rtol=0)


def test_times_and_places_are_told_apart(model):
    """A clip played backwards, and a clip with its patches moved, are other clips."""
    clip = frames(1)
    backwards, moved = clip.flip(1), clip.roll(16, dims=-1)
    there, back, aside = (model.encode_video(x)[0] for x in (clip, backwards, moved))
    assert there @ back < 0.999
    assert there @ aside < 0.999


# -- against open_clip's own CLIP -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip():
    return clip_weights.network(width=128)


def test_a_clip_of_one_frame_and_its_text_are_those_of_the_clip_it_began_with(clip):
    model, images = ViCLIP.from_clip(clip.state_dict()), frames(3, times=1)
    with torch.inference_mode():
        image, text = (
            clip.encode_image(images[:, 0], normalize=True),
            clip.encode_text(_tokens77(TEXTS[:3]), normalize=True),
        )
    torch.testing.assert_close(model.encode_video(images), image, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.encode_text(TEXTS[:3]), text, atol=1e-6, rtol=0)


def _tokens77(texts):
    from open_clip import tokenize as tokenize77

    return tokenize77(texts)


def to_clip(model: ViCLIP) -> dict[str, torch.Tensor]:
    """The reverse of :meth:`ViCLIP.from_clip`, but for the texts' length: no place for time."""
    moved = {
        name.removeprefix("text_encoder.").replace("vision_encoder.", "visual.", 1): tensor
        for name, tensor in model.state_dict().items()
    }
    del moved["visual.temporal_positional_embedding"]
    moved["visual.conv1.weight"] = moved["visual.conv1.weight"].squeeze(2)
    moved["logit_scale"] = -moved.pop("temp").log()
    return moved


def test_clip_to_viclip_and_back_changes_nothing_but_the_texts_length(clip):
    before = clip.state_dict()
    model = ViCLIP.from_clip(before)
    assert not model.vision_encoder.temporal_positional_embedding.any()
    assert model.temp.item() == pytest.approx(1 / before["logit_scale"].exp().item())
    after = to_clip(model)
    assert set(after) == set(before)
    for name in before:
        kept = before[name][:32] if name == "positional_embedding" else before[name]
        torch.testing.assert_close(after[name], kept, atol=1e-6 if name == "logit_scale" else 0, rtol=0)


def test_viclip_to_clip_and_back_changes_nothing_but_the_time(model, tensors):
    again = ViCLIP.from_clip(to_clip(model)).state_dict()
    for name in tensors:
        expected = torch.zeros(1, 8, 128) if "temporal" in name else tensors[name]
        torch.testing.assert_close(again[name], expected)


# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "count"), [(VICLIP_B16, 149_603_841), (VICLIP_L14, 427_590_145)])
def test_the_published_sizes_have_the_published_number_of_parameters(sizes, count):
    with torch.device("meta"):
        published = ViCLIP(sizes)
    assert sum(p.numel() for p in published.parameters()) == count
    assert len(published.state_dict()) == sum(1 for _ in published.parameters())  # no buffers
    assert type(sizes).of(published.state_dict()) == sizes


def test_names_are_those_of_the_published_files():
    with torch.device("meta"):
        names = set(ViCLIP(weights.TINY).state_dict())
    block = [
        f"{m}.{k}" for m in ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj") for k in ("weight", "bias")
    ]
    block += ["attn.in_proj_weight", "attn.in_proj_bias"]
    norms = [f"{norm}.{kind}" for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")]
    video = ["class_embedding", "positional_embedding", "temporal_positional_embedding", "proj", "conv1.weight", *norms]
    text = ["token_embedding.weight", "positional_embedding", "text_projection", "ln_final.weight", "ln_final.bias"]
    layers = [f"transformer.resblocks.{i}.{name}" for i in range(2) for name in block]
    assert names == {
        "temp",
        *(f"vision_encoder.{name}" for name in (*video, *layers)),
        *(f"text_encoder.{name}" for name in (*text, *layers)),
    }


def test_checkpoints_may_be_wrapped_halved_or_from_several_gpus(model, tensors, tmp_path):
    expected = model.encode_text(["a man walks"])
    spread = {f"module.{name}": tensor for name, tensor in tensors.items()}
    for found in ({"model": tensors, "epoch": 3}, spread, {"module": tensors}):
        torch.save(found, tmp_path / "found.pth")
        read = ViCLIP.from_state_dict(checkpoints.tensors(tmp_path / "found.pth"))
        torch.testing.assert_close(read.encode_text(["a man walks"]), expected)
    halved = ViCLIP.from_state_dict({name: tensor.half() for name, tensor in tensors.items()})
    assert halved.temp.dtype == torch.float32
    assert halved.encode_text(["a man walks"])[0] @ expected[0] > 0.9999


def test_what_is_missing_or_of_another_shape_is_named(tensors):
    without = {name: t for name, t in tensors.items() if name != "text_encoder.ln_final.bias"}
    with pytest.raises(WrongArchitectureError, match=r" 1 missing: text_encoder\.ln_final\.bias$"):
        ViCLIP.from_state_dict(without)
    with pytest.raises(WrongArchitectureError, match=r" 1 unknown: extra$"):
        ViCLIP.from_state_dict({**tensors, "extra": torch.zeros(1)})
    wider = {**tensors, "vision_encoder.conv1.weight": torch.zeros(128, 3, 2, 16, 16)}
    with pytest.raises(
        WrongArchitectureError, match=r"conv1\.weight is \(128, 3, 2, 16, 16\), expected \(128, 3, 1, 16, 16\)"
    ):
        ViCLIP.from_state_dict(wider)
    with pytest.raises(WrongArchitectureError, match=r"not a ViCLIP .*vision_encoder\.proj"):
        ViCLIP.from_state_dict({"backbone.conv.weight": torch.zeros(1)})
    with pytest.raises(WrongArchitectureError, match="not a CLIP"):
        ViCLIP.from_clip(tensors)


def test_frames_of_another_size_or_number_are_refused(model):
    with pytest.raises(ValueError, match=r"8 frames \(or 1\) of 32x32 pixels, got 4 of 32x32"):
        model.encode_video(frames(1, times=4))
    with pytest.raises(ValueError, match="got 8 of 48x48"):
        model.encode_video(frames(1, side=48))


def test_nothing_in_nothing_out(model):
    assert model.encode_text([]).shape == (0, 32)
    assert model.encode_video(frames(0)).shape == (0, 32)


# -- the tokenizer ----------------------------------------------------------------------------------------------------

START, END = 49_406, 49_407


def ids(text: str) -> list[int]:
    row = tokenize([text])[0].tolist()
    assert len(row) == 32
    end = row.index(END)
    assert row[0] == START
    assert not any(row[end + 1 :])
    return row[1:end]


def test_words_become_clips_ids():
    assert ids("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert ids("") == []


def test_sentences_are_tidied():
    assert ids("  A   photo\n of a CAT ") == ids("a photo of a cat")
    assert ids("fish &amp; chips") == ids("fish & chips")
    assert ids("caf\u00c3\u00a9") == ids("café")  # bytes once read as Latin-1


def test_open_clip_gives_the_same_ids():
    from open_clip import tokenize as of_open_clip

    texts = ["Somebody's riding 2 bikes — fast!", "日本語 and émigrés", "x" * 300, "word " * 5000, "don't 'll 'RE"]
    assert tokenize(texts).tolist() == of_open_clip(texts, context_length=32).tolist()


def test_long_sentences_keep_their_end():
    assert len(ids("walk " * 30)) == 30
    assert ids("walk " * 31) == ids("walk " * 30) == ids("walk " * 5000)


def test_markers_spelled_out_are_markers():
    """As in the authors' tokenizer; the model then reads the sentence up to its first end."""
    row = tokenize(["walk <|endoftext|> <|startoftext|> walk"])[0].tolist()
    assert row[:6] == [START, row[1], END, START, row[1], END]
    assert END not in ids("<end_of_text>")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip.tokenizer", None)
    viclip_model._vocabulary.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"open_clip.*pip install 'posecap\[clip\]'"):
        tokenize(["a man walks"])
