"""The SLURM script, with programs in place of SLURM, Ray and posecap that note how they are called."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "build.sbatch"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the script is for bash")

_PROGRAMS = {
    "scontrol": 'if [ "$1" = show ]; then echo one; echo two; fi',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo 10.0.0.1 fe80::1",
    "ray": 'echo "token: $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}"; [ "$1" = status ] || exec sleep 60',
}


def _environment(folder: Path, *, posecap: str) -> dict[str, str]:
    for name, body in {**_PROGRAMS, "posecap": posecap}.items():
        program = folder / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\n{body}\n')
        program.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    return {**os.environ, **slurm, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "8"}


def test_bash_reads_the_script() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_the_job_ends_with_the_exit_code_of_the_build(tmp_path: Path) -> None:
    # The script starts Ray beside the build, which is over at once here.
    wait = "until grep -q 'ray start --head' calls && grep -q 'ray start --block' calls; do sleep 0.05; done"
    environment = _environment(tmp_path, posecap=f"cd {tmp_path}; {wait}; exit 3")
    command = ["bash", SCRIPT, "mine.yaml", "s3://bucket/poses", "--update"]
    ran = subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True, text=True)
    assert ran.returncode == 3
    assert "token: token 64" in ran.stdout  # of the head, whose cluster is closed to others
    calls = (tmp_path / "calls").read_text().splitlines()
    built = "posecap build --manifest mine.yaml --output s3://bucket/poses --address 10.0.0.1:22345 --update"
    assert built in calls
    assert "ray start --head --block --node-ip-address=10.0.0.1 --port=22345 --num-cpus=8" in calls
    assert not any(call.startswith("scontrol requeue") for call in calls)


def test_a_job_that_is_told_to_end_stops_the_build_and_is_queued_again(tmp_path: Path) -> None:
    environment = _environment(tmp_path, posecap=f"echo $$ > {tmp_path}/building; exec sleep 60")
    job = subprocess.Popen(["bash", SCRIPT, "mine.yaml", "poses"], env=environment)
    until = time.monotonic() + 30
    building = tmp_path / "building"
    while not (building.exists() and building.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 143
    assert "scontrol requeue 12345" in (tmp_path / "calls").read_text().splitlines()
    process = int(building.read_text())
    while _alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(process)


def test_without_an_output_the_usage_is_printed(tmp_path: Path) -> None:
    ran = subprocess.run(["bash", SCRIPT, "mine.yaml"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.split(":")[0]) == (2, "usage")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
