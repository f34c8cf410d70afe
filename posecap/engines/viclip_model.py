"""ViCLIP's network and tokenizer (InternVid, Wang et al., ICLR 2024): a CLIP whose image encoder takes several frames.

Every patch of every frame attends to every other. Tokens are patch-major (all times of the first patch, then all of the
second), after one class token; a temporal embedding is added to the patches and not to the class token. Parameter names
are those of the published checkpoints, and all sizes are derived from the tensors' shapes. The tokenizer is CLIP's
byte-pair vocabulary, from open_clip, with 32 tokens.

Arrays are named by their axes: B videos, T frames, C sentences, D numbers of a vector, H by W pixels; L is a number of
tokens.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from posecap.inference.package_compat import ensure_torchvision, extra
from posecap.weights.checkpoints import WrongArchitectureError, differences

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer


CONTEXT = 32
"""Tokens of a sentence, start and end included, as the published checkpoints have positions for."""
_HEAD = 64
"""Width of an attention head in every CLIP and ViCLIP, whose code divides the width by it; no tensor's shape tells."""
_START, _END = "<|startoftext|>", "<|endoftext|>"
"""CLIP's markers of a sentence's start and end."""
# Of OpenAI's CLIP: the two markers, English endings, runs of letters, single digits, runs of anything else.
_WORD = rf"{re.escape(_START)}|{re.escape(_END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"


def tokenize(sentences: Sequence[str], *, context: int = CONTEXT) -> torch.Tensor:
    """(C, context) int64 ids: start, pieces of words, end, zeros. Longer sentences are truncated before the end token.

    The same ids as the authors' tokenizer: broken Unicode is repaired, HTML entities are resolved, white space is
    collapsed, letters are lower-cased. Start and end are recognised where a sentence spells them out, which
    open_clip's own reading does not do.

    Raises:
        ModuleNotFoundError: open_clip is not installed.
    """
    tokenizer, word = _vocabulary()
    markers = {_START: tokenizer.sot_token_id, _END: tokenizer.eot_token_id}
    ids = torch.zeros(len(sentences), context, dtype=torch.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        pieces = [markers[_START]]
        for found in word.finditer(tokenizer.clean_fn(sentence)):
            text = found.group()
            if text in markers:
                pieces.append(markers[text])
            else:
                letters = "".join(tokenizer.byte_encoder[byte] for byte in text.encode())
                pieces.extend(tokenizer.encoder[piece] for piece in tokenizer.bpe(letters).split(" "))
            if len(pieces) >= context:  # what follows would be cut off
                break
        pieces = [*pieces[: context - 1], markers[_END]]
        row[: len(pieces)] = torch.tensor(pieces)
    return ids


@functools.cache
def _vocabulary() -> tuple[SimpleTokenizer, re.Pattern[str]]:
    """open_clip's tokenizer, for its vocabulary and merges, and the pattern that splits a sentence into words; read
    once. Raises ModuleNotFoundError where open_clip is not installed."""
    with extra("clip"):
        ensure_torchvision()
        import regex
        from open_clip.tokenizer import SimpleTokenizer
    return SimpleTokenizer(), regex.compile(_WORD, regex.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Hyperparameters of a ViCLIP.

    ``dimension`` is the length D of a vector, ``frames`` the number T of a video, ``grid`` patches per side of a frame,
    ``patch`` pixels per side of a patch, ``context`` tokens of a sentence, ``vocabulary`` different tokens (CLIP's
    number by default); widths are those of the encoders' token vectors, layers the numbers of their blocks.
    """

    dimension: int
    frames: int
    patch: int
    grid: int
    video_width: int
    video_layers: int
    text_width: int
    text_layers: int
    context: int = CONTEXT
    vocabulary: int = 49_408

    @property
    def side(self) -> int:
        """Pixels per side of a frame."""
        return self.grid * self.patch

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> Sizes:
        """Sizes derived from the shapes of a state dict.

        Raises:
            WrongArchitectureError: a tensor that determines them is missing or has another number of axes.
        """
        try:
            video_width, dimension = tensors["vision_encoder.proj"].shape
            context, text_width = tensors["text_encoder.positional_embedding"].shape
            found = cls(
                dimension=dimension,
                frames=tensors["vision_encoder.temporal_positional_embedding"].shape[1],
                patch=tensors["vision_encoder.conv1.weight"].shape[-1],
                grid=round((tensors["vision_encoder.positional_embedding"].shape[0] - 1) ** 0.5),
                video_width=video_width,
                video_layers=_layers(tensors, "vision_encoder"),
                text_width=text_width,
                text_layers=_layers(tensors, "text_encoder"),
                context=context,
                vocabulary=tensors["text_encoder.token_embedding.weight"].shape[0],
            )
        except (KeyError, ValueError, IndexError) as error:
            raise WrongArchitectureError(f"not a ViCLIP ({error}); its first tensors: {_first(tensors)}") from error
        if video_width % _HEAD or text_width % _HEAD:
            raise WrongArchitectureError(
                f"widths {video_width} and {text_width} are not multiples of the width of a head, {_HEAD}"
            )
        return found


# The two published ones, by whose shapes tests make networks; a checkpoint's own are read off its tensors.
VICLIP_B16 = Sizes(
    dimension=512, frames=8, patch=16, grid=14, video_width=768, video_layers=12, text_width=512, text_layers=12
)
VICLIP_L14 = Sizes(
    dimension=768, frames=8, patch=14, grid=16, video_width=1024, video_layers=24, text_width=768, text_layers=12
)


class ViCLIP(nn.Module):
    """Video and text encoders into one space. The constructor leaves weights at zero; see ``from_state_dict``."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vision_encoder = VideoTower(sizes)
        self.text_encoder = TextTower(sizes)
        # The softmax temperature of training, which checkpoints hold; embeddings do not depend on it.
        self.temp = nn.Parameter(torch.tensor(0.01))

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """The model of a published state dict, of either size, in float32 and in evaluation mode.

        Raises:
            WrongArchitectureError: tensors are missing, unknown, or of other shapes.
        """
        with torch.device("meta"):
            model = cls(Sizes.of(tensors))
        if problems := differences(model, tensors):
            raise WrongArchitectureError(f"not a ViCLIP: {problems}")
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        return model.eval().requires_grad_(False)

    @classmethod
    def from_clip(cls, state_dict: Mapping[str, torch.Tensor], *, frames: int = 8) -> Self:
        """The initial state of ViCLIP's training: CLIP weights with open_clip's names, the temporal embedding zero.

        Patch kernels become kernels of one frame, texts keep the first 32 positions. OpenAI's CLIPs fit, which
        compute with QuickGELU as ViCLIP does; of others the vectors would be wrong. ``frames``, of a video, is 8 in
        the published models; no tensor of a CLIP has it.

        Raises:
            WrongArchitectureError: the tensors are not those of a plain CLIP (``ViT-B-16-quickgelu`` …).
        """
        try:
            moved = {_viclip_name(name): tensor for name, tensor in state_dict.items()}
            moved["vision_encoder.conv1.weight"] = moved["vision_encoder.conv1.weight"].unsqueeze(2)
            positions = moved["text_encoder.positional_embedding"]
            moved["text_encoder.positional_embedding"] = positions[:CONTEXT].clone()
            width = moved["vision_encoder.class_embedding"].shape[0]
            moved["temp"] = (-moved["temp"]).exp().reshape(())
        except KeyError as missing:
            raise WrongArchitectureError(
                f"not a CLIP ({missing} is missing); first tensors: {_first(state_dict)}"
            ) from missing
        moved["vision_encoder.temporal_positional_embedding"] = torch.zeros(1, frames, width)
        return cls.from_state_dict(moved)

    def encode_video(self, frames_BT3HW: torch.Tensor) -> torch.Tensor:
        """(B, D) float32 of length 1, from frames (B, 8, 3, 224, 224) in [0, 1], then normalised with ImageNet's mean
        and deviation; numbers and sizes are those of ``sizes``.

        Raises:
            ValueError: frames of another size, or another number of them. A single frame is allowed.
        """
        return F.normalize(self.vision_encoder(frames_BT3HW).float(), dim=-1)

    def encode_text(self, sentences: Sequence[str]) -> torch.Tensor:
        """(C, D) float32 of length 1, from sentences as they are, which only the tokenizer tidies and lower-cases; one
        string is one sentence. Raises ModuleNotFoundError where open_clip is not installed."""
        tokens = tokenize([sentences] if isinstance(sentences, str) else sentences, context=self.sizes.context)
        return F.normalize(self.text_encoder(tokens.to(self.temp.device)).float(), dim=-1)


class VideoTower(nn.Module):
    """Normalised frames (B, T, 3, side, side) to (B, D), not of length 1; T is ``Sizes.frames``, or 1."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, kernel = sizes.video_width, (1, sizes.patch, sizes.patch)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(sizes.grid**2 + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, sizes.frames, width))
        self.proj = nn.Parameter(torch.zeros(width, sizes.dimension))
        self.conv1 = nn.Conv3d(3, width, kernel, stride=kernel, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, sizes.video_layers)
        self.ln_post = nn.LayerNorm(width)

    def forward(self, frames_BT3HW: torch.Tensor) -> torch.Tensor:
        x = self._patches(frames_BT3HW)
        batch, _, times, _ = x.shape
        x = F.linear(x.to(self.proj.dtype), self.conv1.weight.flatten(1)) + self.positional_embedding[1:, None]
        time = self.temporal_positional_embedding
        x = x + (time if times > 1 else time.mean(1, keepdim=True))
        first = (self.class_embedding + self.positional_embedding[0]).expand(batch, 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([first, x.flatten(1, 2)], dim=1)))
        projected: torch.Tensor = self.ln_post(x[:, 0]) @ self.proj
        return projected

    def _patches(self, frames_BT3HW: torch.Tensor) -> torch.Tensor:
        """(B, positions, T, 3 · patch²). Kernels do not overlap, so the convolution is a matrix product of these."""
        batch, times, _, height, width = frames_BT3HW.shape
        grid, patch, side = self.sizes.grid, self.sizes.patch, self.sizes.side
        if (height, width) != (side, side) or times not in (1, self.sizes.frames):
            wanted = f"{self.sizes.frames} frames (or 1) of {side}x{side} pixels"
            raise ValueError(f"ViCLIP takes {wanted}, got {times} of {height}x{width}")
        x = frames_BT3HW.reshape(batch, times, 3, grid, patch, grid, patch)
        return x.permute(0, 3, 5, 1, 2, 4, 6).reshape(batch, grid * grid, times, 3 * patch * patch)


class TextTower(nn.Module):
    """Token ids (C, context) int64 to (C, D), not of length 1."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.positional_embedding = nn.Parameter(torch.zeros(sizes.context, width))
        self.text_projection = nn.Parameter(torch.zeros(width, sizes.dimension))
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        self.transformer = Transformer(width, sizes.text_layers, causal=True)
        self.ln_final = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding)
        ends = tokens.argmax(-1)  # the end of a sentence has the highest id; the first one counts
        projected: torch.Tensor = self.ln_final(x[torch.arange(len(x), device=x.device), ends]) @ self.text_projection
        return projected


class Transformer(nn.Module):
    """(B, L, width) to the same: blocks in which every token attends to all tokens, or with ``causal`` only to itself
    and those before it.
    """

    def __init__(self, width: int, layers: int, *, causal: bool = False) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(width, causal=causal) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class ResidualBlock(nn.Module):
    """(B, L, width) to the same: attention, then a feed-forward layer, each added to its input."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, causal=causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class Attention(nn.Module):
    """(B, L, width) to the same: self-attention with the parameter names of :class:`torch.nn.MultiheadAttention`."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(batch, length, 3, width // _HEAD, _HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: torch.Tensor = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """(…, width) to the same: two layers with QuickGELU, x · sigmoid(1.702 x), between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.c_fc(x)
        out: torch.Tensor = self.c_proj(x * torch.sigmoid(1.702 * x))
        return out


def _viclip_name(clip: str) -> str:
    """ViCLIP's name of a tensor that open_clip's CLIP calls so."""
    if clip == "logit_scale":
        return "temp"
    return f"vision_encoder.{clip.removeprefix('visual.')}" if clip.startswith("visual.") else f"text_encoder.{clip}"


def _layers(tensors: Mapping[str, torch.Tensor], tower: str) -> int:
    """The number of blocks of an encoder; 0 where no tensor is one's."""
    begin = f"{tower}.transformer.resblocks."
    return len({name.removeprefix(begin).split(".")[0] for name in tensors if name.startswith(begin)})


def _first(tensors: Mapping[str, torch.Tensor]) -> str:
    """Names of the first three tensors, for messages."""
    return ", ".join(list(tensors)[:3]) or "none"
