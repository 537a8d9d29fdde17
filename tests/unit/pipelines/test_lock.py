"""Locks of jobs: a second night is refused while the first, or what it started, runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.steps.commands import only_one
from pricing.errors import LockError
from pricing.paths import ROOT
from tests.kit.servers import wait_for

STARTED = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
NIGHT = """
import sys
from pathlib import Path
from unittest.mock import Mock
from pipelines.steps import commands

commands.COMMAND = (sys.executable, "-m", "started")
with commands.only_one("nightly", home=Path(sys.argv[1])) as held:
    commands.run_job("etl", [], run=Mock(info=Mock(run_id="1", experiment_id="0")), keep=held)
"""


def free(home: Path) -> bool:
    try:
        with only_one("nightly", home=home):
            return True
    except LockError:
        return False


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with (
        only_one("retrain", home=tmp_path),
        pytest.raises(LockError, match="retrain is running already"),
        only_one("retrain", home=tmp_path),
    ):
        pass


def test_a_second_night_is_refused_while_the_child_of_one_that_was_killed_runs(tmp_path: Path) -> None:
    (tmp_path / "started.py").write_text(STARTED)
    night = subprocess.Popen(
        [sys.executable, "-c", NIGHT, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert night.stdout is not None
    assert night.stdout.readline() == "--- etl\n"
    child = int(night.stdout.readline())

    night.kill()
    night.wait(20)
    night.stdout.close()
    orphaned = free(tmp_path)
    os.kill(child, signal.SIGKILL)

    assert not orphaned
    wait_for(lambda: free(tmp_path))
