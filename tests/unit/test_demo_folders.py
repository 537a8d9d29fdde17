"""Where demos run: an earlier one that was finished is never disturbed."""

from pathlib import Path

import pytest
from pipelines.demo_world import (
    FINISHED,
    DemoEnvironment,
    StageError,
    last_finished,
    next_folder,
    reopen,
    serve_command,
)

from pricing.paths import ROOT


def make(home: Path, number: int, *, finished: bool) -> Path:
    folder = home / str(number)
    folder.mkdir(parents=True)
    if finished:
        (folder / FINISHED).touch()
    return folder


def test_the_first_demo_gets_the_first_folder(tmp_path: Path) -> None:
    assert next_folder(tmp_path / "grocery") == tmp_path / "grocery" / "1"


def test_the_last_finished_demo_stays_and_all_others_go(tmp_path: Path) -> None:
    old = make(tmp_path, 1, finished=True)
    kept = make(tmp_path, 9, finished=True)
    broken = make(tmp_path, 10, finished=False)

    folder = next_folder(tmp_path)

    assert folder == tmp_path / "11"
    assert kept.exists()
    assert not old.exists()
    assert not broken.exists()


def test_what_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()

    next_folder(tmp_path)

    assert (tmp_path / "notes").exists()


def test_the_last_finished_demo_is_found_whatever_came_after_it(tmp_path: Path) -> None:
    assert last_finished(tmp_path) is None

    for number, finished in ((9, True), (10, True), (11, False)):
        make(tmp_path, number, finished=finished)

    assert last_finished(tmp_path) == tmp_path / "10"


@pytest.mark.parametrize("name", ["grocery.yaml", "small.yaml"])
def test_a_demo_is_served_as_it_ran(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path, 1, finished=False)
    ran = DemoEnvironment(folder, tmp_path / name)
    ran.finish()

    assert reopen(folder, port=9000).settings == {**ran.settings, "PORT": "9000"}


def test_a_failed_stage_shows_its_last_lines_though_nothing_was_shown_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    environment = DemoEnvironment(tmp_path, tmp_path / "config.yaml")

    with pytest.raises(StageError, match=r"exit code 3.*etl\.log, and ends:\n   \| no such column"):
        environment.run("etl", ["sh", "-c", "echo no such column; exit 3"])

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "port", "home", "command"),
    [
        ("grocery", 8080, ROOT / ".pricing", "make serve-demo"),
        ("market", 8081, ROOT / ".pricing", "make serve-demo DATA=market PORT=8081"),
        ("grocery", 8080, Path("/my shop"), "PRICING_HOME='/my shop' make serve-demo"),
    ],
)
def test_the_command_that_serves_a_demo_names_what_is_not_as_usual(
    data: str, port: int, home: Path, command: str
) -> None:
    assert serve_command(data, port=port, home=home) == command
