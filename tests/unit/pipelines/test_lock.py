import subprocess
from pathlib import Path

import pytest

from pipelines.steps.commands import only_one
from pricing.errors import LockError


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with (
        only_one("retrain", home=tmp_path),
        pytest.raises(LockError, match="retrain is running already"),
        only_one("retrain", home=tmp_path),
    ):
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
