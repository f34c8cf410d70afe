"""``posecap build`` as people run it: words, exit codes, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posecap.checks.verify import verify
from posecap.cli import main
from posecap.shards import committed
from posecap.status.ledger import Ledger
from tests import small
from tests.small import KEPT, MISSING, SILENT


def build(path: Path, *more: str) -> int:
    return main(["build", "--manifest", str(path), "--runner", "local", "--workers", "1", *more])


def test_a_complete_build_ends_with_0_and_tells_what_came_of_it(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [KEPT, MISSING], media_root=media)
    assert build(path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "rows: 2 planned = 1 kept + 1 rejected + 0 failed + 0 quarantined; clips: 1 kept" in said
    assert said.endswith(f"dataset: {tmp_path / 'dataset'}")
    assert build(path) == 0
    assert "every part is built; nothing to do" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "dataset")]) == 0
    assert main(["verify", str(tmp_path / "dataset")]) == 0


def test_failed_rows_end_it_with_3_and_the_way_on(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small.manifest(tmp_path, [MISSING, SILENT], media_root=media)
    assert build(path, "--output", str(tmp_path / "here")) == 3
    assert "some rows failed: `posecap status --failed`" in capsys.readouterr().out
    assert not (tmp_path / "dataset").exists()
    assert main(["status", str(tmp_path / "here"), "--failed"]) == 3
    assert "failed  silent" in capsys.readouterr().out
    assert build(path, "--output", str(tmp_path / "here"), "--retry-failed") == 3


def test_a_changed_pipeline_ends_it_with_1(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.manifest(tmp_path, [MISSING], media_root=media)
    assert build(path) == 0
    small.manifest(tmp_path, [MISSING], media_root=media, motion=0.5)
    capsys.readouterr()
    assert build(path) == 1
    said = capsys.readouterr().err
    assert said.startswith("posecap: ")
    assert "pipeline.filter_people.motion: 0.0 → 0.5" in said
    assert build(path, "--update") == 0


def test_an_address_is_for_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path / "m.yaml", "--address", "auto") == 2
    assert capsys.readouterr().err == "posecap: --address is for --runner ray\n"


@pytest.mark.parametrize(("line", "words"), [("pipeline: none.py", "no pipeline file at"), ("shape: 3", "shape")])
def test_input_that_is_wrong_ends_it_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    path = small.manifest(tmp_path, [MISSING])
    kept = [found for found in path.read_text().splitlines() if not found.startswith(line.split(":")[0])]
    path.write_text("\n".join([*kept, line]) + "\n")
    assert build(path) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it_with_130_and_the_same_command_goes_on(media: Path, tmp_path: Path) -> None:
    spans = [{**KEPT, "id": f"kept-{n}", "label": f"take {n}"} for n in range(12)]
    path = small.manifest(tmp_path, spans, rows_per_part=1, media_root=media)
    root = tmp_path / "dataset"
    command = ["build", "--manifest", str(path), "--runner", "local", "--workers", "1"]
    # A shell that runs this in the background has its children ignore Ctrl-C.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from posecap.cli import main; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        until = time.monotonic() + 60
        while not committed(root) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; what is finished is kept. Go on with the same command:" in said
    assert said.splitlines()[-1].startswith("  posecap build --manifest ")
    assert "Traceback" not in said
    before = len(committed(root))
    assert 1 <= before < 12
    assert main(command) == 0
    with Ledger(root / "ledger.sqlite") as ledger:
        assert [outcome.row_id for outcome in ledger.outcomes()] == [span["id"] for span in spans]
    assert verify(root).problems == ()
