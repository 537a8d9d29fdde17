"""Run folders in shared memory: those that killed services left go, every other one stays."""

import os
from pathlib import Path

from serving.__main__ import _hold, _remove_abandoned


def test_only_run_folders_whose_owner_is_dead_are_removed(tmp_path: Path) -> None:
    for name in ("pricing-abandon1", "pricing-living_1", "pricing-no_lock1", "pricing-other", "elsewhere-1"):
        (tmp_path / name).mkdir()
    for name in ("pricing-abandon1", "pricing-other", "elsewhere-1"):
        (tmp_path / name / "owner.lock").touch()
    (tmp_path / "pricing-linked_1").symlink_to(tmp_path / "elsewhere-1")
    held = _hold(tmp_path / "pricing-living_1")

    _remove_abandoned(tmp_path)
    os.close(held)

    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["elsewhere-1", "pricing-linked_1", "pricing-living_1", "pricing-no_lock1", "pricing-other"]
