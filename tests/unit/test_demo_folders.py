"""Where demos run: an earlier one that was finished is never disturbed."""

from pathlib import Path

from pipelines.demo_world import FINISHED, next_folder


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
