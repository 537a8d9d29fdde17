"""The programs of tools/: a set-up that installs anew only what changed, and what slims an image's packages."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up, at work in a folder that has three small lock files and a finished .venv of this Python."""
    module = program("environment")
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


def test_only_what_changed_is_installed_and_every_set_that_was_asked_for_is_kept_in_step(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    def synced(name: str) -> list[list[str]]:
        commands.clear()
        assert environment.main([name]) == 0
        return [[Path(word).stem for word in one if word.endswith(".txt")] for one in commands if "sync" in one]

    first, again, second = synced("training"), synced("training"), synced("demo")
    assert "--require-hashes" in commands[-1]
    (tmp_path / "requirements" / "training.txt").write_text("training==2\n")
    changed = synced("demo")

    whole = [["bootstrap", "demo", "training"]]
    assert (first, again, second, changed) == ([["bootstrap", "training"]], [], whole, whole)


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


def test_the_command_pricing_runs_the_checkout_that_its_venv_is_called_in(
    environment: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    environment.main(["training"])
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "pricing" / "runtime").mkdir(parents=True)
    (tmp_path / "pricing" / "__init__.py").touch()
    (tmp_path / "pricing" / "runtime" / "command.py").write_text("import sys\nprint(sys.argv[1:])\n")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pricing").mkdir(parents=True)
    (elsewhere / "pricing" / "__init__.py").write_text("raise SystemExit('of the folder it was called in')\n")

    command = [tmp_path / ".venv" / "bin" / "pricing", "etl", "my sales.csv"]
    with subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, text=True) as started:
        out, _ = started.communicate()

    assert out == "['etl', 'my sales.csv']\n"


def test_every_locked_package_carries_hashes_no_address_and_the_version_of_the_largest_set() -> None:
    pins: dict[str, dict[str, str]] = {}
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text(encoding="utf-8")
        packages = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        pins[lock.stem] = {line.partition("==")[0]: line.partition("==")[2].split()[0] for line in packages}

        assert packages
        assert "://" not in text, lock
        assert all(line.endswith("\\") for line in packages), lock

    whole = pins["development"]
    for name in ("serving", "training", "tracking", "bootstrap", "notebook"):
        assert {key: value for key, value in pins[name].items() if whole.get(key, value) != value} == {}, name
