"""What gets installed: by ``pip install -e``, and as a wheel. Both are made by the build backend itself, offline."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("posecap", "tmor_train")
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the packages are made of, in a folder named ``posecap`` as ``git clone`` names it."""
    folder = tmp_path_factory.mktemp("projects") / "posecap"
    folder.mkdir()
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def made(hook: str, clone: Path, folder: Path) -> zipfile.ZipFile:
    """The wheel that a hook of the build backend writes into ``folder``."""
    call = f"import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", call, str(folder)], cwd=clone, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


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


def test_a_wheel_has_every_file_of_the_packages(clone: Path, tmp_path: Path) -> None:
    """Modules, the markers of types, and whatever else lies in the packages."""
    files = {
        path.relative_to(clone).as_posix() for name in PACKAGES for path in (clone / name).rglob("*") if path.is_file()
    }
    with made("build_wheel", clone, tmp_path) as wheel:
        inside = {name for name in wheel.namelist() if name.startswith(PACKAGES) and ".dist-info/" not in name}
    assert inside == files
    assert {"posecap/py.typed", "tmor_train/py.typed"} <= inside
