"""What pipelines open on GitHub: git is real, `gh` is a program that writes down what it was asked."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy import github

GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$ASKED"
case "$1 $2" in
  "issue list"|"pr list") printf '%s' "$FOUND" ;;
  "issue create") echo https://github.com/shop/pricing/issues/5 ;;
  "$FAILS") exit 1 ;;
esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "gh").write_text(GH)
    (programs / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("FOUND", "")
    monkeypatch.setenv("FAILS", "nothing")
    return tmp_path / "asked"


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *github.AUTHOR, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "origin")
    git(tmp_path, "clone", "--quiet", "origin", "clone")
    folder = tmp_path / "clone"
    (folder / "requirements").mkdir()
    (folder / "requirements" / "a.txt").write_text("a==1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(folder)
    return folder


def test_a_first_failure_opens_an_issue_and_a_second_one_continues_it(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--title", "it fails", "--body", "see `run`; rm -rf /", "--label", "weekly"]

    assert github.main(words) == 0
    monkeypatch.setenv("FOUND", "5")
    assert github.main(words) == 0

    lines = asked.read_text().splitlines()
    assert "issue create --title it fails --body see `run`; rm -rf / --label weekly" in lines
    assert lines[-1] == "issue comment 5 --body see `run`; rm -rf /"
    assert capsys.readouterr().out == "https://github.com/shop/pricing/issues/5\n5\n"


def test_renewed_files_are_proposed_once_and_checked(
    asked: Path, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["propose", "--title", "locks: renewed", "--body", "b", "--branch", "locks", "requirements"]
    (clone / "requirements" / "a.txt").write_text("a==2\n")
    (clone / "other.txt").write_text("not asked for\n")

    assert github.main(words) == 0
    monkeypatch.setenv("FOUND", "9")
    (clone / "requirements" / "a.txt").write_text("a==3\n")
    assert github.main(words) == 0

    assert git(tmp_path / "origin", "show", "locks:requirements/a.txt") == "a==3\n"
    assert git(tmp_path / "origin", "ls-tree", "--name-only", "locks").split() == ["requirements"]
    lines = asked.read_text().splitlines()
    assert sum(line.startswith("pr create") for line in lines) == 1
    assert lines.count("workflow run ci.yml --ref locks") == 2


def test_what_did_not_change_is_not_proposed(asked: Path, clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert github.main(["propose", "--title", "t", "--body", "b", "--branch", "locks", "requirements"]) == 0
    assert capsys.readouterr().out == "nothing changed\n"
    assert not asked.exists()


def test_what_github_refuses_is_an_error(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "label create")

    assert github.main(["report", "--title", "t", "--body", "b", "--label", "weekly"]) == 1
    assert "error: gh label create ended with 1" in capsys.readouterr().err
