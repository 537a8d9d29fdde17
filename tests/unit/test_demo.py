"""What a demo says first, where a stage fails, and what it refuses."""

import socket
from pathlib import Path

import pytest

from pipelines.demo import SCENARIOS, StageError, _Demo, main


def test_a_failed_stage_shows_its_last_lines_and_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()

    with pytest.raises(StageError, match=r"exit code 2.*etl\.log, and ends:(\n.*)*--no_such_option"):
        _Demo(SCENARIOS["grocery"], tmp_path)._job("etl", no_such_option=1)

    assert "--no_such_option" in (tmp_path / "logs" / "etl.log").read_text()


def test_a_port_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))

        assert main([]) == 2

    assert "is taken" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
