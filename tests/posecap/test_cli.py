"""The command as a whole: help, exit codes, one clear line for an error, and a quick start."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from posecap import __version__
from posecap.cli import main
from tests import built, small

COMMANDS = ("plan", "build", "manifest", "status", "verify", "inspect", "view", "remove", "pipeline")


def help_of(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    return ended.value.code


def test_help_names_every_command_and_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of() == 0
    said = capsys.readouterr().out
    assert all(f"\n    {command} " in said for command in COMMANDS)
    assert "posecap build --manifest demo" in said
    assert "exit codes: 0 complete, 3 partial" in said
    assert "4 alarms" in said


@pytest.mark.parametrize(
    "command", [*COMMANDS, "manifest kinetics", "manifest folder", "pipeline list", "pipeline show"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(*command.split()) == 0
    assert f"usage: posecap {command}" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"posecap {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["bild"], ["build"], ["build", "--manifest", "m.yaml", "--workers", "0"], ["verify", "--sheet"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: posecap" in capsys.readouterr().err


def test_an_error_for_people_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--manifest", str(tmp_path / "none.yaml")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("posecap: ")
    assert "none.yaml" in said.err
    assert said.err.count("\n") == 1


def test_an_unforeseen_error_names_its_type_and_the_way_to_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSECAP_TRACEBACK", raising=False)
    (first, *_), *_ = built.build(tmp_path).values()
    (tmp_path / "report.json").mkdir()
    assert main(["remove", str(tmp_path), first.key]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[1] == "posecap: set POSECAP_TRACEBACK=1 for the traceback"
    monkeypatch.setenv("POSECAP_TRACEBACK", "1")
    with pytest.raises(OSError, match=r"report\.json"):
        main(["remove", str(tmp_path), first.key])


@pytest.mark.parametrize(("number", "remedy"), [(errno.EROFS, "name another place"), (errno.ENOSPC, "free some space")])
def test_an_error_of_the_system_names_file_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fails(root: Path, **settings: object) -> None:
        raise OSError(number, os.strerror(number), "/mnt/x.json.part")

    built.build(tmp_path)
    monkeypatch.setattr("posecap.verify.verify", fails)
    assert main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"posecap: /mnt/x.json.part: {os.strerror(number)}; ")
    assert remedy in said
    assert said.count("\n") == 1


def test_a_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    manifest = small.manifest(tmp_path, [{"id": "a", "video": "a.mp4"}])
    assert main(["build", "--manifest", str(manifest), "--output", str(tmp_path / "out"), "--runner", "local"]) == 1
    assert "http needs requests, not installed: pip install 'posecap[build]'" in capsys.readouterr().err


def test_ctrl_c_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(root: Path, **settings: object) -> None:
        raise KeyboardInterrupt

    built.build(tmp_path)
    monkeypatch.setattr("posecap.verify.verify", interrupted)
    assert main(["verify", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize("buffering", ["line_buffering=True", "line_buffering=False", "write_through=True"])
def test_output_that_nobody_reads_ends_as_by_sigpipe(tmp_path: Path, buffering: str) -> None:
    built.build(tmp_path)
    (tmp_path / "data/train/pose-00000.tar").unlink()
    code = f"import sys; from posecap.cli import main; sys.stdout.reconfigure({buffering}); sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "verify", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_broken_pipe_that_is_not_stdouts_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(root: Path, **settings: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    built.build(tmp_path)
    monkeypatch.setattr("posecap.verify.verify", broken)
    assert main(["verify", str(tmp_path)]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom posecap.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded', sorted({'torch', 'pyarrow', 'ray', 'numpy', 'av', 'fsspec', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.slow
def test_a_dataset_is_looked_at_without_the_packages_of_a_build(tmp_path: Path) -> None:
    """As after ``pip install posecap`` alone."""
    (first, *_), *_ = built.build(tmp_path).values()
    code = (
        "import sys\n"
        "for name in ('PIL', 'av', 'jinja2', 'onnxruntime', 'ray', 'requests', 'scipy', 'tokenizers', 'urllib3'):\n"
        "    sys.modules[name] = None\n"
        "from posecap.cli import main\n"
        "import posecap.plan_check\n"
        f"dataset, key = {str(tmp_path)!r}, {first.key!r}\n"
        "codes = [main(words) for words in (['verify', dataset], ['inspect', dataset, key], ['status', dataset])]\n"
        "codes += [main(['verify', dataset, '--repair']), main(['remove', dataset, key])]\n"
        "print(codes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Without a report the repair is not complete.
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 3, 0]"
    assert done.stderr == ""
