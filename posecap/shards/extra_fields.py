"""Fields of samples beyond those that all datasets have: extra members, and captions chosen by their origins.

A reader asks for a member by its name, as ``text.minilm`` (:mod:`posecap.shards.extra`), and says which captions
captions and vectors of texts are of. Samples that have none of a member are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posecap.shards.dataset import Dataset
from posecap.shards.extra import ExtraRows, MemberName, read_extra, read_extra_list, read_extra_part
from posecap.shards.paths import ShardError
from posecap.types import Caption, PartName

Rows = NDArray[np.int64]
"""Numbers of samples within a part, ascending."""


class ExtraFields:
    """What some fields of samples need beside the samples.

    Args:
        dataset: whose samples are read.
        fields: names of fields; those with a full stop are extra members.
        captions: origins of the captions that are chosen: ``row``, ``label``, ``template`` (each of
            ``template:…``) or a captioner's name, of the samples' own captions and of members of captions; or ``all``
            alone, for all of them. None for the samples' own.

    Raises:
        ShardError: the dataset has no such member, or a field of texts has no vectors of captions that are chosen.

    ``chooses`` is whether captions are chosen, for which those of a sample, with their origins, must be known.
    """

    def __init__(self, dataset: Dataset, fields: Sequence[str], captions: Sequence[str] | None = None) -> None:
        self._dataset = dataset
        self._fields = tuple(MemberName.of(name) for name in fields if "." in name)
        self._origins = None if captions is None else (captions,) if isinstance(captions, str) else tuple(captions)
        self.chooses = captions is not None
        self._listed = read_extra_list(dataset.storage) if self._fields or self.chooses else {}
        self._added = tuple(
            name for name in sorted(self._listed) if name.kind == "captions" and self._is_chosen(name.name)
        )
        for name in self._fields:
            if name not in self._listed:
                there = ", ".join(map(str, self._listed)) or "none"
                raise ShardError(
                    f"{dataset.location} has no {name}; its extra members: {there}; `posecap add` makes them"
                )
            if name.kind == "text":
                self._check_covered(str(name), self._listed[name].captions, "run `posecap add` with its model again")
        if "text" in fields:
            self._check_covered("text", (), "ask for a field text.NAME")
        self._read = tuple(dict.fromkeys([*self._fields, *self._added]))
        self._held: tuple[PartName, Mapping[MemberName, ExtraRows]] | None = None

    def __bool__(self) -> bool:
        """Whether samples have anything of it."""
        return bool(self._fields) or self.chooses

    def _check_covered(self, field: str, covers: Sequence[str], remedy: str) -> None:
        lacking = [name for name in self._added if name.name not in covers]
        if lacking:
            raise ShardError(f"{field} has no vectors of {lacking[0]}: leave these captions out, or {remedy}")

    def _is_chosen(self, origin: str) -> bool:
        """Whether captions of an origin are chosen."""
        origins = self._origins or ()
        return origins == ("all",) or origin in origins or origin.partition(":")[0] in origins

    def kept(self, part: PartName, rows: Rows, keys: Any = None) -> NDArray[np.bool_]:
        """Which of a part's rows have all members that are read, as (N) bool.

        Args:
            keys: of the rows, an Arrow array; None reads them where some may be missing.

        Raises:
            ShardError: the part lacks a member altogether, as when it was built after the member was added.
        """
        missing: set[str] = set()
        for name in self._read:
            lacking = self._listed[name].parts.get(part)
            if lacking is None:
                raise ShardError(f"part {part} of {self._dataset.location} has no {name}: run `posecap add` again")
            if lacking:
                sidecar = read_extra_part(self._dataset.storage, name, part)
                missing.update(sidecar.missing if sidecar is not None else ())
        if not missing:
            return np.ones(len(rows), np.bool_)
        if keys is None:
            keys = self._dataset.part_index(part, ["key"])["key"].take(rows)
        return ~np.isin(np.asarray(keys.to_pylist(), str), sorted(missing))

    def parts(self, parts: Iterable[tuple[PartName, Rows]]) -> list[tuple[PartName, Rows]]:
        """Parts with those of their rows that are kept, and without parts that have none; raises as :meth:`kept`."""
        found = [(part, rows[self.kept(part, rows)]) for part, rows in parts]
        return [(part, rows) for part, rows in found if len(rows)]

    def own(self, captions: Sequence[Caption]) -> list[int]:
        """Numbers of a sample's own captions that are chosen."""
        return [number for number, one in enumerate(captions) if not self.chooses or self._is_chosen(one.origin)]

    def of(self, part: PartName, key: str, captions: Sequence[Caption] = ()) -> dict[str, Any]:
        """The members of a sample that are asked for, by field, arrays as numpy's; where captions are chosen also
        these, as the list ``captions``. Files of one part are held.

        Args:
            captions: the sample's own, where captions are chosen.

        Raises:
            ShardError: a file is missing or damaged.
        """
        if self._held is None or self._held[0] != part:
            self._held = part, self.rows_of(part)
        _, read = self._held
        found: dict[str, Any] = {}
        own = self.own(captions)
        if self.chooses:
            added = [text for name in self._added for text in read[name].captions(key)]
            found["captions"] = [*(captions[number].text for number in own), *added]
        for name in self._fields:
            if name.kind == "captions":
                found[str(name)] = read[name].captions(key)
            elif name.kind == "video":
                found[str(name)] = read[name].vector(key)
            else:
                chosen = read[name].vector(key)[self.text_rows(name, read[name], key, own)]
                found[str(name)] = chosen if len(chosen) else np.zeros((0, self._listed[name].dimension), np.float32)
        return found

    def text_rows(self, name: MemberName, rows: ExtraRows, key: str, own: Sequence[int]) -> list[int]:
        """Which of the vectors of a sample in a member of texts are those of the captions that are chosen, in order.

        Args:
            own: numbers of the sample's own captions that are chosen (:meth:`own`); not used where none are chosen.

        Raises:
            ShardError: the member is of other captions than the sample and the members of captions have.
        """
        counts = rows.counts(key)
        if not self.chooses:
            return list(range(counts[0] if counts else 0))
        covers, ends = self._listed[name].captions, np.cumsum(counts).tolist()
        if len(counts) != 1 + len(covers) or counts[0] <= max(own, default=-1):
            raise ShardError(f"{name} of sample {key} is of other captions: run `posecap add` with its model again")
        added = [1 + covers.index(one.name) for one in self._added]
        return [*own, *(row for n in added for row in range(ends[n - 1], ends[n]))]

    def rows_of(self, part: PartName) -> Mapping[MemberName, ExtraRows]:
        """The members that are read, of a part's samples; ShardError where a file is missing or damaged."""
        return {name: read_extra(self._dataset.storage, name, part) for name in self._read}

    def __getstate__(self) -> dict[str, Any]:
        """Without files that are held, which other processes map themselves."""
        return {**self.__dict__, "_held": None}


def extra_of(dataset: Dataset, key: str) -> dict[str, Any]:
    """All extra members of one sample by name, as :meth:`ExtraFields.of` gives them, as far as its part has them; texts
    with a vector of each caption, the sample's own and those that were added.

    Raises:
        ShardError: there is no such sample, or a file of a member is damaged.
    """
    listed = read_extra_list(dataset.storage)
    if not listed:
        return {}
    part = dataset.part_of(key)
    read = {name: read_extra(dataset.storage, name, part) for name, one in listed.items() if part in one.parts}
    return {
        str(name): rows.captions(key) if name.kind == "captions" else rows.vector(key) for name, rows in read.items()
    }
