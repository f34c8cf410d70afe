"""Tiny vision-language models in the hub's format, written by transformers itself, with random or chosen weights.

smolvlm(folder)                              random weights: junk that depends on the frames
qwen2_vl(folder, saying=" a man bends.")     the text part is set so that every answer is this one
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    Idefics3Config,
    Idefics3Processor,
    LlavaOnevisionConfig,
    LlavaOnevisionProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLProcessor,
    SmolVLMConfig,
    SmolVLMProcessor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

from posecap.weights.checkpoints import MARK

_WORDS = (
    "a man woman person people the and then his her both left right arm arms leg legs hand hands head back forward "
    "down up raises lowers bends turns steps swings jumps kneels slowly twice while standing"
)
_SIDE, _PATCH = 28, 14
_SCATTER = 0.3
"""Spread of the random weights: at transformers' own 0.02 the answer would not depend on the frames."""

_TURN = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def smolvlm(folder: Path, *, seed: int = 0, saying: str = "") -> Path:
    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config=_vision(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    side: dict[str, Any] = {"size": {"longest_edge": _SIDE}, "max_image_size": {"longest_edge": _SIDE}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessorPil(**side),
        tokenizer,
        SmolVLMVideoProcessor(**side),
        image_seq_len=1,
        chat_template=_TURN.replace("IMAGE", "<image>"),
    )
    return _write(folder, config, processor, seed=seed, saying=saying)


def idefics3(folder: Path, *, seed: int = 0, saying: str = "") -> Path:
    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    config = Idefics3Config(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config=_vision(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    side: dict[str, Any] = {"size": {"longest_edge": 2 * _SIDE}, "max_image_size": {"longest_edge": _SIDE}}
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(**side),
        tokenizer,
        image_seq_len=1,
        chat_template=_TURN.replace("IMAGE", "<image>"),
    )
    return _write(folder, config, processor, seed=seed, saying=saying)


def qwen2_vl(folder: Path, *, seed: int = 0, saying: str = "") -> Path:
    tokenizer = _tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    special = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids = {f"{what}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>") for what, word in special.items()}
    text = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    config = Qwen2VLConfig(
        text_config={**_text(tokenizer), **text},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        **ids,
    )
    pixels = {"shortest_edge": _SIDE**2, "longest_edge": (2 * _SIDE) ** 2}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessorPil(size=pixels),
        tokenizer,
        Qwen2VLVideoProcessor(size=pixels),
        chat_template=_TURN.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return _write(folder, config, processor, seed=seed, saying=saying)


def llava_onevision(folder: Path, *, seed: int = 0, saying: str = "") -> Path:
    tokenizer = _tokenizer("<image>", "<video>")
    grid = [[_SIDE, _SIDE], [_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE]]
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **_vision()},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
    )
    size = {"height": _SIDE, "width": _SIDE}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=grid),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(_SIDE // _PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=_TURN.replace("IMAGE", "<image>"),
    )
    return _write(folder, config, processor, seed=seed, saying=saying)


FAMILIES = {"smolvlm": smolvlm, "idefics3": idefics3, "qwen2_vl": qwen2_vl, "llava_onevision": llava_onevision}


def _tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Bytes, and a few words with a space before them, so that random answers have words in them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    for word in _WORDS.split():
        piece = "Ġ"
        for letter in word:
            if piece + letter not in vocabulary:
                vocabulary[piece + letter] = len(vocabulary)
                merges.append((piece, letter))
            piece += letter
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|pad|>", "<|start|>", "<|end|>", *special)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|start|>", eos_token="<|end|>"
    )


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }


def _vision() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": _SIDE,
        "patch_size": _PATCH,
    }


def _write(folder: Path, config: PreTrainedConfig, processor: ProcessorMixin, *, seed: int, saying: str) -> Path:
    network = AutoModelForImageTextToText.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(network.state_dict().items()):
        if tensor.is_floating_point() and not name.endswith("inv_freq"):
            norm = "norm" in name and name.endswith("weight")
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * _SCATTER + float(norm))
    if saying:
        _recite(network, processor.tokenizer, saying)
    network.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    network.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    _mark(folder / "config.json")
    return folder


def _recite(network: Any, tokenizer: PreTrainedTokenizerFast, saying: str) -> None:
    """Make each token of ``saying`` call for the next one, whatever came before; no token may come twice.

    Nothing adds to a token's own vector, the last norm keeps its direction, and the head's row of the token after it
    is that direction: one axis of the space, or its opposite, for each token of the chain.
    """
    tokens = [*tokenizer("assistant\n")["input_ids"][-1:], *tokenizer(saying)["input_ids"], tokenizer.eos_token_id]
    assert len(set(tokens)) == len(tokens), f"{saying!r} has a token twice"
    state = network.state_dict()
    for name, tensor in state.items():
        if name.endswith(("o_proj.weight", "down_proj.weight", "o_proj.bias", "down_proj.bias")):
            tensor.zero_()
    width = state["lm_head.weight"].shape[1]
    assert len(tokens) <= 2 * width
    (embedding,) = [tensor for name, tensor in state.items() if name.endswith("embed_tokens.weight")]
    state["lm_head.weight"].zero_()
    for i, (now, after) in enumerate(pairwise(tokens)):
        direction = torch.zeros(width)
        direction[i % width] = math.copysign(1, width - 0.5 - i)
        embedding[now] = direction
        state["lm_head.weight"][after] = direction
    (norm,) = [
        t for name, t in state.items() if name.endswith(("text_model.norm.weight", "language_model.norm.weight"))
    ]
    norm.fill_(1)


def _mark(config: Path) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | {MARK: True}, indent=2))
