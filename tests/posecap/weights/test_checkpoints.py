"""Checkpoints as torch writes them, damaged ones, and hostile ones, none of which may run."""

from __future__ import annotations

import builtins
import collections
import functools
import json
import operator
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from posecap.weights import checkpoints
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, Storages, WrongArchitectureError
from posecap.weights.unpickle import Inert, UnsafePickleError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@pytest.fixture(autouse=True)
def not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)


def network(seed: int = 0, *, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def saved(path: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def archive(path: Path, pickled: bytes, **members: bytes) -> Path:
    """A zip in torch's layout around any pickle."""
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            zipped.writestr(f"archive/data/{name}", content)
    return path


def tensor_of(key: str, count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """A pickle of one float32 tensor, whatever its numbers say."""

    class Writer(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", count) if obj is marker else None

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (marker, offset, size, stride, False, collections.OrderedDict())

    import io

    marker, out = object(), io.BytesIO()
    Writer(out, protocol=2).dump({"x": Tensor()})
    return out.getvalue()


class TestReading:
    @FORMATS
    def test_tensors_and_plain_values_come_back(self, tmp_path: Path, zipped: bool) -> None:
        shared = torch.arange(12, dtype=torch.float32).reshape(3, 4)
        content = {
            "state_dict": network().state_dict(),
            "column": shared[:, 1],
            "turned": shared.T,
            "half": torch.ones(2, dtype=torch.bfloat16),
            "none": torch.zeros(0, 3),
            "scalar": torch.tensor(7),
            "parameter": nn.Parameter(torch.full((2,), 3.0)),
            "array": np.arange(6, dtype=">f4").reshape(2, 3),
            "number": np.float64(3.5),
            "plain": [1, 2.5, "three", None, True, b"\x00\xff", (4,), {5, 6}, frozenset({7})],
            "size": torch.Size([1, 2]),
            "device": torch.device("cuda:1"),
            "dtype": torch.float16,
            "ordered": collections.OrderedDict(a=1, b=2),
        }
        read = checkpoints.load(saved(tmp_path / "a.pt", content, zipped=zipped))
        assert list(read["state_dict"]) == list(content["state_dict"])
        assert all(torch.equal(read["state_dict"][k], v) for k, v in content["state_dict"].items())
        assert read["column"].tolist() == [1.0, 5.0, 9.0]
        assert read["turned"].tolist() == shared.T.tolist()
        assert read["half"].dtype == torch.bfloat16
        assert read["half"].tolist() == [1.0, 1.0]
        assert read["none"].shape == (0, 3)
        assert read["scalar"].item() == 7
        assert read["parameter"].tolist() == [3.0, 3.0]
        assert read["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert read["number"] == 3.5
        assert read["plain"] == content["plain"]
        assert read["size"] == (1, 2)
        assert read["device"] == torch.device("cuda:1")
        assert read["dtype"] is torch.float16
        assert read["ordered"] == {"a": 1, "b": 2}

    @FORMATS
    def test_views_share_their_storage(self, tmp_path: Path, zipped: bool) -> None:
        base = torch.zeros(4)
        read = checkpoints.load(saved(tmp_path / "a.pt", {"a": base, "b": base[1:3]}, zipped=zipped))
        read["a"][1] = 5
        assert read["b"].tolist() == [5.0, 0.0]

    @FORMATS
    def test_a_list_that_holds_itself(self, tmp_path: Path, zipped: bool) -> None:
        knot: list[Any] = []
        knot.append(knot)
        read = checkpoints.load(saved(tmp_path / "a.pt", knot, zipped=zipped))
        assert read[0] is read

    @FORMATS
    def test_a_pickled_module_gives_its_state_dict(self, tmp_path: Path, zipped: bool) -> None:
        net = nn.Sequential(network(), nn.Conv2d(1, 1, 1, bias=False))
        net.register_buffer("kept", torch.ones(2))
        net.register_buffer("passing", torch.ones(2), persistent=False)
        path = saved(tmp_path / "a.pt", {"model": net, "epoch": 3}, zipped=zipped)
        with pytest.raises(CheckpointError, match=r"names torch\.nn\.modules\.container\.Sequential"):
            checkpoints.load(path)
        module = checkpoints.load(path, unknown_classes="inert")["model"]
        assert isinstance(module, Inert)
        assert (module.module, module.name) == ("torch.nn.modules.container", "Sequential")
        found, wanted = checkpoints.tensors(path), net.state_dict()
        assert list(found) == list(wanted)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    def test_what_is_no_module_has_no_state_dict(self) -> None:
        with pytest.raises(CheckpointError, match=r"a\.B at the top is not a module of a network"):
            checkpoints.module_tensors(Inert("a", "B", state={"x": 1}))
        knot = Inert("a", "B", state={"_modules": {}})
        knot.state["_modules"]["again"] = knot
        with pytest.raises(CheckpointError, match="not a module of a network"):
            checkpoints.module_tensors(knot)

    def test_modules_that_share_their_children_are_counted(self) -> None:
        below = Inert("a", "B", state={"_modules": {}})
        for _ in range(40):
            below = Inert("a", "B", state={"_modules": {"x": below, "y": below}})
        with pytest.raises(CheckpointError, match="more than 50000 modules"):
            checkpoints.module_tensors(below)

    def test_safetensors(self, tmp_path: Path) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        path = tmp_path / "named_otherwise.bin"
        safetensors.save_file({"x": torch.arange(3)}, path)
        assert checkpoints.load(path)["x"].tolist() == [0, 1, 2]
        assert checkpoints.tensors(path)["x"].tolist() == [0, 1, 2]


class TestTensors:
    @pytest.mark.parametrize("under", ["state_dict", "model", "module", None])
    def test_where_they_lie(self, tmp_path: Path, under: str | None) -> None:
        flat = {"x": torch.ones(1), "steps": 3}
        path = saved(tmp_path / "a.pt", {under: flat, "epoch": 1} if under else flat)
        assert list(checkpoints.tensors(path)) == ["x"]

    def test_other_keys(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", {"ema": {"x": torch.ones(1)}, "state_dict": {"y": torch.ones(1)}})
        assert list(checkpoints.tensors(path, under=("ema",))) == ["x"]

    def test_names_of_training_with_several_gpus(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", {"state_dict": {"module.x": torch.ones(1), "module.y": torch.ones(1)}})
        assert list(checkpoints.tensors(path)) == ["x", "y"]
        path = saved(tmp_path / "b.pt", {"state_dict": {"module.x": torch.ones(1), "y": torch.ones(1)}})
        assert list(checkpoints.tensors(path)) == ["module.x", "y"]

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no tensors by name"):
            checkpoints.tensors(saved(tmp_path / "a.pt", {"epoch": 3}))


class TestLoadInto:
    def test_the_same_network(self) -> None:
        target = network(1)
        checkpoints.load_into(target, network(0).state_dict(), path=Path("a.pt"))
        assert torch.equal(target[0].weight, network(0)[0].weight)

    def test_another_size(self) -> None:
        with pytest.raises(WrongArchitectureError) as caught:
            checkpoints.load_into(network(), network(width=5).state_dict(), path=Path("a.pt"))
        for part in (
            "a.pt does not fit Sequential",
            "6 of another shape: 0.weight is (5, 3), expected (4, 3)",
            "and 3 more",
        ):
            assert part in str(caught.value)

    def test_other_names(self) -> None:
        given = {"0.weight": torch.zeros(4, 3), "head.weight": torch.zeros(1)}
        with pytest.raises(WrongArchitectureError) as caught:
            checkpoints.load_into(network(), given, path=Path("a.pt"))
        for part in ("6 missing: 0.bias", "1 unknown: head.weight", "Name the weights of this very model"):
            assert part in str(caught.value)

    def test_what_is_ignored(self) -> None:
        given = {**network(0).state_dict(), "data_preprocessor.mean": torch.zeros(3)}
        del given["1.num_batches_tracked"]
        target = network(1)
        ignore = ("data_preprocessor.*", "*.num_batches_tracked")
        checkpoints.load_into(target, given, path=Path("a.pt"), ignore=ignore)
        assert torch.equal(target[0].weight, network(0)[0].weight)


class TestRandomWeights:
    @FORMATS
    def test_marked_files_are_refused(self, tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        marked = {"state_dict": {"x": torch.ones(1)}, checkpoints.MARK: True}
        path = saved(tmp_path / "a.pt", marked, zipped=zipped)
        with pytest.raises(RandomWeightsError, match=r"a\.pt holds random weights"):
            checkpoints.tensors(path)
        monkeypatch.setenv("POSECAP_RANDOM_WEIGHTS", "allow")
        assert list(checkpoints.tensors(path)) == ["x"]

    def test_marked_flat_state_dicts_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSECAP_RANDOM_WEIGHTS", "allow")
        path = saved(tmp_path / "a.pt", {"x": torch.ones(1), checkpoints.MARK: True})
        assert list(checkpoints.tensors(path)) == ["x"]

    def test_safetensors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        safetensors = pytest.importorskip("safetensors.torch")
        path = tmp_path / "a.safetensors"
        safetensors.save_file({"x": torch.ones(1)}, path, metadata={checkpoints.MARK: "true"})
        with pytest.raises(RandomWeightsError):
            checkpoints.load(path)
        monkeypatch.setenv("POSECAP_RANDOM_WEIGHTS", "allow")
        assert list(checkpoints.load(path)) == ["x"]

    def test_metadata_of_onnx(self) -> None:
        checkpoints.refuse_random({"author": "somebody"})
        with pytest.raises(RandomWeightsError, match="the file holds random weights"):
            checkpoints.refuse_random({checkpoints.MARK: "true"})


class TestDamage:
    @FORMATS
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
    def test_cut_off(self, tmp_path: Path, zipped: bool, share: float) -> None:
        path = saved(tmp_path / "a.pt", {"x": torch.rand(1000), "y": torch.rand(10)}, zipped=zipped)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match=r"a\.pt"):
            checkpoints.load(path)

    def test_a_flipped_byte(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", {"x": torch.zeros(1000)})
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        path.write_bytes(whole)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load(path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "has no bytes"),
            (b"<!doctype html><title>404</title>", "holds html"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
            (b"\x00\x01\x02\x03" * 100, "begins like no known format"),
            (b"\x80\x02}q\x00.", "not one that torch.save wrote"),
            (b"\x80\x02G\x00", "cut off or malformed"),
            (b"PK\x03\x04 no zip", "cut off or damaged"),
        ],
    )
    def test_no_checkpoint(self, tmp_path: Path, content: bytes, said: str) -> None:
        path = tmp_path / "a.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(path)
        assert said in str(caught.value)
        assert str(path) in str(caught.value)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"gone\.pt cannot be opened"):
            checkpoints.load(tmp_path / "gone.pt")

    def test_torchscript_is_a_program(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("a/data.pkl", b"\x80\x02}.")
            zipped.writestr("a/constants.pkl", b"\x80\x02).")
        with pytest.raises(CheckpointError, match=r"TorchScript .* use the same model's safetensors file"):
            checkpoints.load(path)

    @pytest.mark.parametrize(
        "header",
        [
            {"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
            {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
            {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        ],
    )
    def test_safetensors_with_a_lying_header(self, tmp_path: Path, header: dict[str, Any]) -> None:
        pytest.importorskip("safetensors")
        raw = json.dumps(header).encode()
        path = tmp_path / "a.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(8))
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load(path)


RAN: list[str] = []
"""What a payload reached, had it been called."""


def payload(*args: Any, **words: Any) -> str:
    RAN.append("payload")
    return "ran"


class Hostile:
    """Pickles as a call of ``call`` with ``args``."""

    call: ClassVar[Callable[..., Any]] = payload
    args: ClassVar[tuple[Any, ...]] = ("x",)
    state: ClassVar[Any] = None

    def __reduce__(self) -> Any:
        return (type(self).call, self.args) if self.state is None else (type(self).call, self.args, self.state)


def hostile(call: Callable[..., Any], *args: Any, state: Any = None) -> Hostile:
    return type("Hostile", (Hostile,), {"call": staticmethod(call), "args": args, "state": state})()


def calls(flag: Path) -> dict[str, Any]:
    """Pickles that would leave ``flag`` behind, or reach into this process, were they unpickled."""
    touch = f"touch {flag}"
    return {
        "system": hostile(os.system, touch),
        "popen": hostile(subprocess.check_call, ["touch", str(flag)]),
        "eval": hostile(builtins.eval, f"open({str(flag)!r}, 'w')"),
        "exec": hostile(builtins.exec, f"open({str(flag)!r}, 'w')"),
        "open": hostile(builtins.open, str(flag), "w"),
        "getattr": hostile(builtins.getattr, hostile(__import__, "os"), "system"),
        "nested": hostile(hostile, hostile(os.system, touch), hostile(os.system, touch)),
        "partial": hostile(functools.partial, os.system, touch),
        "attrgetter": hostile(operator.attrgetter, "system"),
        "torch.load": hostile(torch.load, str(flag)),
        "torch.hub": hostile(torch.hub.load, "owner/repo", "model"),
        "torch.compile": hostile(torch.compile, os.system),
        "torch.jit": hostile(torch.jit.load, str(flag)),
        "build": hostile(nn.Linear, 1, 1, state={"forward": hostile(os.system, touch)}),
        "here": hostile(payload, 1),
    }


class TestHostile:
    @pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
    @pytest.mark.parametrize("name", list(calls(Path("x"))))
    def test_calls_never_run(self, tmp_path: Path, name: str, protocol: int) -> None:
        flag = tmp_path / "flag"
        RAN.clear()
        path = archive(tmp_path / "a.pt", pickle.dumps({"x": calls(flag)[name]}, protocol=protocol))
        with pytest.raises(CheckpointError, match=r"names|uses PERSID"):
            checkpoints.load(path)
        read = checkpoints.load(path, unknown_classes="inert")
        assert isinstance(read["x"], Inert)
        with pytest.raises(CheckpointError, match="holds no tensors"):
            checkpoints.tensors(path)
        assert not flag.exists()
        assert RAN == []

    @pytest.mark.parametrize("name", ["system", "nested", "build"])
    def test_nor_in_the_legacy_format(self, tmp_path: Path, name: str) -> None:
        flag = tmp_path / "flag"
        path = saved(tmp_path / "a.pt", {"x": calls(flag)[name]}, zipped=False)
        with pytest.raises(CheckpointError, match="names"):
            checkpoints.load(path)
        assert isinstance(checkpoints.load(path, unknown_classes="inert")["x"], Inert)
        assert not flag.exists()

    def test_nor_before_the_legacy_header(self, tmp_path: Path) -> None:
        flag = tmp_path / "flag"
        (tmp_path / "a.pt").write_bytes(pickle.dumps(hostile(os.system, f"touch {flag}"), protocol=2))
        with pytest.raises(CheckpointError, match="names"):
            checkpoints.load(tmp_path / "a.pt", unknown_classes="inert")
        assert not flag.exists()

    def test_an_inert_record_says_what_was_wanted(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "a.pt", pickle.dumps(hostile(os.system, "echo", state={"a": 1})))
        record = checkpoints.load(path, unknown_classes="inert")
        assert (record.module, record.name, record.args, record.state) == ("posix", "system", ("echo",), {"a": 1})
        assert "echo" not in repr(record)

    @pytest.mark.parametrize(
        ("pickled", "said"),
        [
            (b"\x80\x02\x82\x01.", "EXT1"),
            (b"Pos.system\n.", "PERSID"),
            (b"\x80\x05\x97.", "NEXT_BUFFER"),
            (b"(S'touch x'\nios\nsystem\n.", "names os.system"),
            (b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.", "names os.system"),
            (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)s\x86b.", "fills a function"),
            (b"\x80\x02ctorch\nFloatStorage\n}X\x01\x00\x00\x00xK\x01sb.", "fills a dtype"),
            (b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.", None),
            (b"\x80\x02}\x8c\x01xK\x01s)R.", "calls a dict"),
            (b"\x80\x02K\x01K\x02a.", "appends to a int"),
            (b"\x80\x02K\x01K\x02K\x03s.", "sets items of a int"),
            (b"\x80\x02h\x07.", "Memo value not found at index 7"),
            (b"\x80\x02R.", "malformed"),
            (b"\x80\x02(K\x01u.", "malformed"),
            (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx", "cut off"),
            (b"\x80\x02\x8b\xff\xff\xff\x7f\x01.", "cut off"),
            (b"\x80\x02c__builtin__\nset\n]]a\x85R.", "a list cannot be a key"),
            (b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00x.", "cut off"),
            (b"\x80\x02K\x01r\xff\xff\xff\xff0j\xff\xff\xff\x7f.", "Memo value not found"),
            (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R)R.", "calls a _DtypeRecord"),
            (b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00xK\x01sb.", "fills a type"),
        ],
    )
    def test_strange_opcodes(self, tmp_path: Path, pickled: bytes, said: str | None) -> None:
        path = archive(tmp_path / "a.pt", pickled)
        if said is None:
            assert dict(checkpoints.load(path)) == {}  # attributes of an OrderedDict are not kept
            return
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(path)
        assert said in str(caught.value)

    def test_globals_outside_the_file_stay_as_they_are(self, tmp_path: Path) -> None:
        """BUILD on a name could fill torch's own functions and classes, were they there."""
        for name in (
            "nn\nLinear",
            "torch\nTensor",
            "torch._utils\n_rebuild_parameter",
            "torch.nn.parameter\nParameter",
        ):
            path = archive(tmp_path / "a.pt", f"c{name}\n(dS'poison'\nI1\nsb.".encode())
            with pytest.raises(CheckpointError):
                checkpoints.load(path)
        assert not hasattr(torch._utils._rebuild_parameter, "poison")
        assert not hasattr(torch.Tensor, "poison")

    @pytest.mark.parametrize(
        ("pickled", "said"),
        [
            (b"\x80\x02}(" + b"K\x01" * 65 + b"tK\x01s.", "too many parts"),
            (b"\x80\x02}\x8b\xe8\x03\x00\x00" + b"\x01" * 1000 + b"K\x01s.", "too large a number"),
            (b"\x80\x02c" + b"x" * 300 + b"\ny\n.", "name is too long"),
            (b"\x80\x02\x8c\x02\x1b[\x8c\x01m\x93.", "not printable"),
            (b"\x80\x02ctorch\ndevice\n]\x85R.", "device is malformed"),
        ],
    )
    def test_what_would_cost_too_much_or_speak_to_a_terminal(self, tmp_path: Path, pickled: bytes, said: str) -> None:
        with pytest.raises(CheckpointError, match=said):
            checkpoints.load(archive(tmp_path / "a.pt", pickled), unknown_classes="inert")

    @pytest.mark.parametrize(
        "again",
        [
            b"c__builtin__\nset\nh\x01\x85R0",
            b"ccollections\nOrderedDict\nh\x02\x85R0",
            b"c_codecs\nencode\nh\x03X\x06\x00\x00\x00latin1\x86R0",
            b"ca\nb\n)h\x04\x920",
        ],
        ids=["set", "ordered", "bytes", "words"],
    )
    def test_copies_are_counted(self, tmp_path: Path, again: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("posecap.weights.unpickle.MAX_COPIED_BYTES", 100_000)
        numbers = b"(" + b"".join(b"K" + bytes([n]) for n in range(200)) + b"l"
        pairs = b"(" + b"".join(b"K" + bytes([n]) + b"N\x86" for n in range(200)) + b"l"
        words = b"(" + b"".join(b"K" + bytes([n]) + b"N" for n in range(200)) + b"d"
        made = b"\x80\x02" + numbers + b"q\x010" + pairs + b"q\x020X\xc8\x00\x00\x00" + b"x" * 200 + b"q\x030"
        made += words + b"q\x040"
        few = archive(tmp_path / "a.pt", made + again * 2 + b"N.")
        assert checkpoints.load(few, unknown_classes="inert") is None
        with pytest.raises(CheckpointError, match="copies more than 100000 bytes"):
            checkpoints.load(archive(tmp_path / "b.pt", made + again * 1000 + b"N."), unknown_classes="inert")

    def test_steps_are_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("posecap.weights.unpickle.MAX_OPCODES", 1000)
        assert checkpoints.load(archive(tmp_path / "a.pt", b"\x80\x02" + b"N0" * 400 + b"N.")) is None
        with pytest.raises(CheckpointError, match="more than 1000 steps"):
            checkpoints.load(archive(tmp_path / "b.pt", b"\x80\x02" + b"N0" * 600 + b"N."))

    def test_hashing_a_key_is_bounded(self, tmp_path: Path) -> None:
        # A pair of a pair of a pair, each twice the one below: 179 bytes that take hours to hash.
        pickled = b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 34 + b"K\x01s."
        with pytest.raises(CheckpointError, match="nested too deeply"):
            checkpoints.load(archive(tmp_path / "a.pt", pickled))

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            # 64 times the tuple below, eight times over: a kilobyte that takes years to hash.
            (b"K\x01q\x00" + (b"0(" + b"h\x00" * 64 + b"tq\x00") * 7, "too many parts"),
            # A frozenset of the one below and of a pair with it: two such take hours to compare.
            (b"(K\x01\x91q\x00" + b"0(h\x00h\x00K\x01\x86\x91q\x00" * 40, "frozenset cannot be a key"),
        ],
        ids=["tuples", "frozensets"],
    )
    def test_a_key_of_the_same_part_again_and_again_is_refused(self, tmp_path: Path, key: bytes, said: str) -> None:
        with pytest.raises(CheckpointError, match=said):
            checkpoints.load(archive(tmp_path / "a.pt", b"\x80\x04}" + key + b"K\x01s."))

    def test_deep_nesting_ends_no_process(self, tmp_path: Path) -> None:
        deep = b")" + b"\x85" * 50_000
        for pickled in (b"\x80\x02}" + deep + b"K\x01s.", b"\x80\x02(" + deep + b"\x91."):
            with pytest.raises(CheckpointError, match="nested too deeply"):
                checkpoints.load(archive(tmp_path / "a.pt", pickled))
        read = checkpoints.load(archive(tmp_path / "a.pt", b"\x80\x02" + deep + b"."))
        assert isinstance(read, tuple)


class TestArrays:
    @FORMATS
    def test_they_are_the_tensors(self, tmp_path: Path, zipped: bool) -> None:
        shared = torch.arange(12, dtype=torch.float32).reshape(3, 4)
        content = {
            **network().state_dict(),
            "column": shared[:, 1],
            "turned": shared.T,
            "scalar": torch.tensor(7),
            "none": torch.zeros(0, 3),
            "half": torch.ones(2, dtype=torch.float16),
        }
        read = checkpoints.arrays(saved(tmp_path / "a.pt", content, zipped=zipped))
        assert list(read) == list(content)
        for name, tensor in content.items():
            np.testing.assert_array_equal(read[name], tensor.numpy(), strict=True)

    @FORMATS
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"state_dict": {"x": torch.zeros(1)}}, "not a state dict"),
            ({"x": torch.zeros(1), "epoch": 3}, "not a state dict"),
            ([torch.zeros(1)], "not a state dict"),
            ({}, "not a state dict"),
            ({"x": torch.zeros(1, dtype=torch.bfloat16)}, "BFloat16Storage, which is neither"),
            ({"x": np.zeros(3)}, "which is neither"),
        ],
    )
    def test_anything_else_is_refused(self, tmp_path: Path, zipped: bool, content: Any, said: str) -> None:
        with pytest.raises(CheckpointError, match=said):
            checkpoints.arrays(saved(tmp_path / "a.pt", content, zipped=zipped))

    def test_random_weights_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RandomWeightsError):
            checkpoints.arrays(saved(tmp_path / "a.pt", {checkpoints.MARK: torch.zeros(1)}))

    def test_torch_is_not_imported(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", network().state_dict())
        code = (
            "import sys; from pathlib import Path; from posecap.weights.checkpoints import arrays\n"
            f"arrays(Path({str(path)!r}))\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestBombs:
    @pytest.mark.parametrize(
        ("pickled", "said"),
        [
            (tensor_of("0", 1 << 50, (1 << 50,), (1,)), "need more bytes than it has"),
            (tensor_of("0", 4, (1 << 40, 1 << 10), (0, 0)), "reaches beyond its storage of 4"),
            (tensor_of("0", 4, (4,), (1,), offset=1), "reaches beyond"),
            (tensor_of("0", 4, (2,), (1 << 60,)), "reaches beyond"),
            (tensor_of("0", 4, (4,), (-1,)), "malformed"),
            (tensor_of("0", 4, (2, 2), (1,)), "malformed"),
            (tensor_of("0", -4, (4,), (1,)), "malformed"),
            (tensor_of("1", 4, (4,), (1,)), "has no archive/data/1"),
            (tensor_of("../../0", 4, (4,), (1,)), "has no archive/data/../../0"),
            (tensor_of("0", 5, (5,), (1,)), "cut off"),
        ],
    )
    @pytest.mark.parametrize("read", [checkpoints.load, checkpoints.arrays])
    def test_tensors_that_lie(self, tmp_path: Path, pickled: bytes, said: str, read: Callable[[Path], Any]) -> None:
        path = archive(tmp_path / "a.pt", pickled, **{"0": bytes(16)})
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert said in str(caught.value)

    def test_an_honest_tensor_passes(self, tmp_path: Path) -> None:
        path = archive(
            tmp_path / "a.pt", tensor_of("0", 4, (2, 2), (2, 1)), **{"0": np.arange(4, dtype="<f4").tobytes()}
        )
        assert checkpoints.load(path)["x"].tolist() == [[0.0, 1.0], [2.0, 3.0]]

    def test_many_storages_of_one_file_are_counted_together(self, tmp_path: Path) -> None:
        pickled = pickle.dumps(0)
        path = tmp_path / "a.pt"
        archive(path, pickled, **{"0": bytes(4096)})
        storages = Storages(4096, fill=lambda _key, _block: None)
        storages.get(("storage", torch.float32, "0", "cpu", 1024))
        with pytest.raises(UnsafePickleError, match="more bytes than it has"):
            storages.get(("storage", torch.float32, "1", "cpu", 1))

    def test_encrypted_members_are_refused(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "a.pt", b"\x80\x02}.")
        content = path.read_bytes()
        at = content.index(b"PK\x01\x02") + 8  # the flags of the first entry of the list of members
        path.write_bytes(content[:at] + bytes([content[at] | 1]) + content[at + 1 :])
        with pytest.raises(CheckpointError, match="encrypted"):
            checkpoints.load(path)

    def test_compressed_members_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("archive/data.pkl", b"\x80\x02}." + bytes(1 << 20))
        with pytest.raises(CheckpointError, match="compressed or too large"):
            checkpoints.load(path)

    @pytest.mark.parametrize(
        ("dtype", "shape", "raw"), [("O8", (1,), bytes(8)), ("f4", (1 << 40,), bytes(4)), ("f4", (-1,), bytes(4))]
    )
    def test_arrays_that_lie(self, tmp_path: Path, dtype: str, shape: tuple[int, ...], raw: bytes) -> None:
        class Array:
            def __reduce__(self) -> Any:
                kind = hostile(np.dtype, dtype, False, True)
                return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), (1, shape, kind, False, raw)

        path = archive(tmp_path / "a.pt", pickle.dumps(Array(), protocol=3))
        with pytest.raises(CheckpointError, match=r"array"):
            checkpoints.load(path)
