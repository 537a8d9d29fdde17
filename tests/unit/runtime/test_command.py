"""The command `pricing` lists every job, imports the one that is started, and adds nothing of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pricing.runtime import command
from pricing.runtime.command import JOBS, main

ROOT = Path(__file__).parents[3]
HEAVY = ("tensorflow", "keras", "mlflow", "numpy", "pandas", "flask", "sqlalchemy", "pydantic")


@pytest.fixture
def a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a job `train` that a test writes."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(command.JOBS, "train", ("a_job", "Trains."))
    monkeypatch.delitem(sys.modules, "a_job", raising=False)
    return tmp_path / "a_job.py"


def test_every_entry_point_of_the_project_is_a_job_of_the_same_name() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    started = {name: entry["command"].split()[2] for name, entry in project["entry_points"].items()}

    assert started.pop("main") == "train"
    assert started == {name: name for name in started if name in JOBS}


def test_help_loads_nothing_that_a_job_needs() -> None:
    code = (
        "import sys\nfrom pricing.runtime.command import main\nmain(['--help'])\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert "train" in done.stdout


def test_a_job_gets_its_words_and_its_exit_code_is_kept(a_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_job.write_text(
        "from pricing.runtime.cli import job\n"
        "@job('train', sales='needed')\n"
        "def main(*, sales, quarantine, config):\n"
        "    print(sales)\n"
        "    return 3\n"
    )

    assert main(["train", "--sales", "my sales.csv", "--config", ""]) == 3
    assert capsys.readouterr().out == "my sales.csv\n"


def test_a_job_whose_packages_are_not_installed_says_which_and_what_to_do(
    a_job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_job.write_text("import no_such_library.part\n")

    assert main(["train"]) == 2

    error = capsys.readouterr().err
    assert "train needs the package no_such_library" in error
    assert "the extra training" in error
