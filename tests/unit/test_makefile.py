"""What make passes on to the programs, by its dry run."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dry_run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Of a make that these tests themselves were started by, nothing reaches the one looked at.
    theirs = ("ARGS", "CONFIG", "MAKE", "MFLAGS", "SALES")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    command = ["make", "--dry-run", "PYTHON=python3", *words]
    return subprocess.run(command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("serve",), "serve --config 'my.yaml'"),
        (("image",), "publish --to build/image/baked --config 'my.yaml'"),
        (("promote",), "-P 'config=my.yaml'"),
        (("train", "SALES=simulated"), "-P 'config=my.yaml'"),
    ],
)
def test_a_configuration_reaches_the_program_where_one_is_given(words: tuple[str, ...], command: str) -> None:
    assert command in dry_run(*words, "CONFIG=my.yaml").stdout
    assert command in dry_run(*words, CONFIG="my.yaml").stdout
    without = dry_run(*words).stdout
    assert without
    assert "config" not in without.lower()


@pytest.mark.parametrize("target", ["train", "nightly"])
def test_a_job_that_needs_sales_says_what_to_give(target: str) -> None:
    done = dry_run(target)

    assert done.returncode != 0
    assert "SALES=simulated" in done.stderr


def test_a_job_runs_in_the_experiment_of_all_jobs(tmp_path: Path) -> None:
    shown = dry_run("train", "SALES=my sales.csv").stdout
    recipe = shown[shown.index("set -e;") :]
    for name, does in {"python": "echo --experiment-id=7", "mlflow": "printf '%s\\n' \"$@\""}.items():
        program = tmp_path / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)

    done = subprocess.run(["/bin/sh", "-c", recipe], cwd=tmp_path, capture_output=True, text=True, check=True)

    words = ["--env-manager", "local", "--experiment-id=7", "-P", "sales=my sales.csv"]
    assert done.stdout.splitlines() == ["run", ".", "-e", "main", *words]
