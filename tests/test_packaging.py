"""What gets installed: by ``pip install -e``, and as a wheel. Both are made by the build backend itself, offline."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from posecap.pipeline import load_pipeline
from tests.footage import write_video

ROOT = Path(__file__).parents[1]
PACKAGES = ("posecap", "tmor_train")
FOLDERS = ("pipelines", "manifests")
NEEDED = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the packages are made of, in a folder named ``posecap`` as ``git clone`` names it."""
    folder = tmp_path_factory.mktemp("projects") / "posecap"
    folder.mkdir()
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    for name in (*PACKAGES, *FOLDERS):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def made(hook: str, clone: Path, folder: Path) -> zipfile.ZipFile:
    """The wheel that a hook of the build backend writes into ``folder``."""
    folder.mkdir(exist_ok=True)
    call = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", call, str(folder)], cwd=clone, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone's wheel."""
    with made("build_wheel", clone, tmp_path_factory.mktemp("wheel")) as packed:
        return Path(str(packed.filename))


@pytest.mark.slow
def test_an_editable_install_is_found_from_the_folder_that_holds_the_clone(clone: Path, tmp_path: Path) -> None:
    """There, the clone's own folder is a namespace package of the same name."""
    installed = tmp_path / "installed"
    with made("build_editable", clone, tmp_path) as wheel:
        wheel.extractall(installed)
    # Without this environment's own site, which may have another copy; then its libraries, behind the new one.
    program = (
        "import site, sys; site.addsitedir(sys.argv[1]); sys.path.append(sys.argv[2]); "
        "import posecap, tmor_train; posecap.open; print(posecap.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-S", "-c", program, str(installed), sysconfig.get_path("purelib")],
        cwd=clone.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()) == clone / "posecap" / "__init__.py"


def test_a_wheel_has_every_file_of_the_packages(clone: Path, wheel: Path) -> None:
    """Modules, the markers of types, whatever else lies in the packages, and pipelines and manifests."""
    files = {
        path.relative_to(clone).as_posix()
        for name in PACKAGES
        for path in (clone / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"  # which whoever imports the clone leaves there
    }
    files |= {f"posecap/{path.relative_to(clone)}" for name in FOLDERS for path in (clone / name).iterdir()}
    with zipfile.ZipFile(wheel) as packed:
        inside = {name for name in packed.namelist() if name.startswith(PACKAGES) and ".dist-info/" not in name}
    assert inside == files
    assert {"posecap/py.typed", "tmor_train/py.typed"} <= inside


@pytest.mark.slow
def test_a_source_distribution_gives_the_same_wheel(clone: Path, wheel: Path, tmp_path: Path) -> None:
    call = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", call, str(tmp_path)], cwd=clone, check=True, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with zipfile.ZipFile(wheel) as one, made("build_wheel", source, tmp_path / "two") as two:
        assert set(two.namelist()) == set(one.namelist())


@pytest.mark.slow
def test_a_wheel_builds_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Pipelines and manifests by name, and the pipeline is the one of the checkout."""
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(installed)
    (empty / "videos" / "jump").mkdir(parents=True)
    write_video(empty / "videos" / "jump" / "a.mp4", frames=2)

    def posecap(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        command = [sys.executable, "-m", "posecap", *words]
        ran = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=True)
        return ran.stdout

    assert posecap("pipeline", "list").split()[0] == "default"
    assert posecap("pipeline", "show", "default") == (ROOT / "pipelines" / "default.py").read_text()
    posecap("manifest", "folder", "videos")
    assert 'pipeline: "default"\n' in (empty / "videos.yaml").read_text()
    posecap("plan", "--manifest", "videos.yaml")
    assert "10" in posecap("plan", "--manifest", "demo").split()
    program = (
        "import posecap; from pathlib import Path; from posecap.manifest.manifest_file import read_manifest; "
        "from posecap.pipeline import load_pipeline; print(posecap.__file__); "
        "print(load_pipeline(read_manifest(Path('videos.yaml')).pipeline).fingerprint())"
    )
    found, fingerprint = subprocess.run(
        [sys.executable, "-c", program],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert Path(found).is_relative_to(installed)
    assert fingerprint == load_pipeline(ROOT / "pipelines" / "default.py").fingerprint()
