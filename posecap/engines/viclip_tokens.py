"""ViCLIP's tokenizer: CLIP's byte-pair vocabulary, as open_clip ships it, with room for 32 tokens."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from posecap.inference.torchvision_ops import ensure_torchvision

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CONTEXT = 32
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD = rf"{re.escape(_START)}|{re.escape(_END)}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"


def tokenize(sentences: Sequence[str], *, context: int = CONTEXT) -> torch.Tensor:
    """(C, context) int64 ids: start, pieces of words, end, zeros. Longer sentences lose their tail, never their end.

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
    """open_clip's tokenizer, for its vocabulary and merges, and the pattern that splits a sentence into words."""
    try:
        ensure_torchvision()
        import regex
        from open_clip.tokenizer import SimpleTokenizer
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"ViCLIP's vocabulary comes with open_clip, and {missing.name} is not installed: "
            "pip install 'posecap[clip]'",
            name=missing.name,
        ) from missing
    return SimpleTokenizer(), regex.compile(_WORD, regex.IGNORECASE)
