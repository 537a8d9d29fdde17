"""The set-up says what is wrong with a Python and what to do, and installs anew only what changed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in a folder that has three small lock files and a finished .venv of this Python."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "requirements" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "requirements"
    folder.mkdir()
    for name in ("bootstrap", "training", "demo"):
        (folder / f"{name}.txt").write_text(f"{name}==1\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "_version", lambda _: sys.version_info[:2])
    return module


@pytest.fixture
def commands(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, none of which installs anything."""
    ran: list[list[str]] = []

    def run(command: list[object], **_: object) -> SimpleNamespace:
        ran.append([str(word) for word in command])
        if "venv" in ran[-1]:
            (Path(ran[-1][-1]) / "bin").mkdir(parents=True)
        return SimpleNamespace(stdout=b"")

    monkeypatch.setattr(environment.subprocess, "run", run)
    return ran


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14), (4, 0)])
def test_a_python_that_is_too_old_or_too_new_is_told_what_to_do(
    environment: ModuleType, version: tuple[int, int]
) -> None:
    words = environment.complaint(version, ["venv", "ensurepip"])

    assert f"{version[0]}.{version[1]}" in words
    assert "apt-get install python3 python3-venv" in words
    assert "PYTHON=" in words


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_supported_python_is_taken(environment: ModuleType, version: tuple[int, int]) -> None:
    assert environment.complaint(version, ["venv", "ensurepip"]) is None


def test_a_debian_python_without_ensurepip_is_told_which_package_lacks(environment: ModuleType) -> None:
    assert "apt-get install python3-venv" in environment.complaint((3, 13), ["venv"])


def test_every_set_that_was_asked_for_is_kept_in_step(environment: ModuleType, commands: list[list[str]]) -> None:
    environment.main(["training"])
    commands.clear()

    environment.main(["demo"])

    (sync,) = [command for command in commands if "sync" in command]
    assert [Path(word).name for word in sync if word.endswith(".txt")] == ["bootstrap.txt", "demo.txt", "training.txt"]
    assert "--require-hashes" in sync


def test_nothing_is_installed_twice(environment: ModuleType, commands: list[list[str]]) -> None:
    environment.main(["training", "demo"])
    commands.clear()

    environment.main(["demo"])

    assert commands == []


def test_a_changed_lock_is_installed(environment: ModuleType, commands: list[list[str]], tmp_path: Path) -> None:
    environment.main(["training"])
    commands.clear()
    (tmp_path / "requirements" / "training.txt").write_text("training==2\n")

    environment.main(["training"])

    assert any("sync" in command for command in commands)


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.main(["training"])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(environment.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environment.main(["demo"])

    assert not (tmp_path / ".venv" / "locked.json").exists()


def test_an_environment_of_another_python_is_made_anew(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.main(["training"])
    monkeypatch.setattr(environment, "_version", lambda _: None)
    (tmp_path / ".venv" / "old").touch()
    commands.clear()

    environment.main(["training"])

    assert not (tmp_path / ".venv" / "old").exists()
    assert [sys.executable, "-m", "venv", str(tmp_path / ".venv")] in commands


def test_the_command_pricing_runs_the_checkout_that_its_venv_is_called_in(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    environment.main(["training"])
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "pricing" / "runtime").mkdir(parents=True)
    (tmp_path / "pricing" / "runtime" / "command.py").write_text("import sys\nprint(sys.argv[1:])\n")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pricing").mkdir(parents=True)
    (elsewhere / "pricing" / "__init__.py").write_text("raise SystemExit('of the folder it was called in')\n")

    command = [tmp_path / ".venv" / "bin" / "pricing", "etl", "my sales.csv"]
    with subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, text=True) as started:
        out, _ = started.communicate()

    assert out == "['etl', 'my sales.csv']\n"


def test_a_launcher_that_is_gone_is_written_again(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    environment.main(["training"])
    (tmp_path / ".venv" / "bin" / "pricing").unlink()

    environment.main(["training"])

    assert (tmp_path / ".venv" / "bin" / "pricing").exists()


@pytest.fixture
def linked(environment: ModuleType, commands: list[list[str]], tmp_path: Path) -> Path:
    """The finished .venv of another checkout, to which this one's is a link."""
    environment.main(["training", "demo"])
    other = tmp_path / "other"
    (tmp_path / ".venv").rename(other)
    (tmp_path / ".venv").symlink_to(other)
    commands.clear()
    return other


def test_a_linked_environment_that_has_what_is_needed_is_used_as_it_is(
    environment: ModuleType, commands: list[list[str]], linked: Path
) -> None:
    before = {path: path.read_bytes() for path in linked.rglob("*") if path.is_file()}

    assert environment.main(["demo"]) == 0

    assert commands == []
    assert {path: path.read_bytes() for path in linked.rglob("*") if path.is_file()} == before


def test_a_linked_environment_of_a_larger_set_is_used_for_one_that_it_holds(
    environment: ModuleType, linked: Path, tmp_path: Path
) -> None:
    locks = tmp_path / "requirements"
    (locks / "development.txt").write_text("training==1 ; python_version < '4'\ntests==1\n")
    (linked / "locked.json").write_text(json.dumps(environment.read_locks(["bootstrap", "development"])))

    assert environment.main(["training"]) == 0

    (locks / "training.txt").write_text("training==2\n")
    assert environment.main(["training"]) == 2


@pytest.mark.parametrize("version", [None, (3, 10)])
def test_a_linked_environment_of_no_supported_python_is_refused_and_kept(
    environment: ModuleType,
    commands: list[list[str]],
    linked: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int] | None,
) -> None:
    monkeypatch.setattr(environment, "_version", lambda _: version)

    assert environment.main(["demo"]) == 2

    assert (linked / "locked.json").exists()
    assert commands == []


def test_nothing_is_installed_through_a_link(
    environment: ModuleType,
    commands: list[list[str]],
    linked: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "requirements" / "training.txt").write_text("training==2\n")

    assert environment.main(["training"]) == 2

    assert commands == []
    said = capsys.readouterr().err
    assert f"is a link to {linked}" in said
    assert "requirements/training.txt" in said
    assert f"rm {tmp_path / '.venv'}" in said


def test_every_locked_package_carries_hashes_and_no_address() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text(encoding="utf-8")
        packages = [block for block in text.split("\n") if "==" in block and not block.startswith(" ")]

        assert packages
        assert "://" not in text, lock
        assert all(line.endswith("\\") for line in packages), lock


def test_every_set_pins_the_versions_of_the_largest() -> None:
    pins = {
        lock.stem: {
            line.partition("==")[0]: line.partition("==")[2].split()[0]
            for line in lock.read_text(encoding="utf-8").splitlines()
            if "==" in line and not line.startswith(" ")
        }
        for lock in (ROOT / "requirements").glob("*.txt")
    }
    whole = pins["development"]

    for name in ("serving", "training", "tracking", "bootstrap", "notebook"):
        assert {key: value for key, value in pins[name].items() if whole.get(key, value) != value} == {}, name
