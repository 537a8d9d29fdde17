import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands import only_one
from pricing.errors import LockError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from pipelines.commands import only_one
with only_one("retrain", home=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with (
        only_one("retrain", home=tmp_path),
        pytest.raises(LockError, match=rf"retrain is running already: process {os.getpid()} since"),
        only_one("retrain", home=tmp_path),
    ):
        pass


def test_the_lock_is_free_again_after_the_end_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_one("retrain", home=tmp_path):
        raise ZeroDivisionError

    with only_one("retrain", home=tmp_path):
        pass


def test_two_jobs_do_not_share_a_lock(tmp_path: Path) -> None:
    with only_one("retrain", home=tmp_path) as one, only_one("nightly", home=tmp_path) as other:
        assert one != other


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockError), only_one("retrain", home=tmp_path):
        pass

    holder.kill()
    holder.wait(20)
    holder.stdout.close()

    with only_one("retrain", home=tmp_path):
        pass


def test_what_a_killed_holder_left_running_still_holds_the_lock(tmp_path: Path) -> None:
    with only_one("retrain", home=tmp_path) as held:
        left = subprocess.Popen(["sleep", "60"], pass_fds=held)
    with pytest.raises(LockError), only_one("retrain", home=tmp_path):
        pass

    left.kill()
    left.wait(20)

    with only_one("retrain", home=tmp_path):
        pass
