"""What make passes on to the programs, by its dry run."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dry_run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("CONFIG", "MAKEFLAGS", "SALES")}
    command = ["make", "--dry-run", "PYTHON=python3", *words]
    return subprocess.run(command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("serve",), "python -m serving --config 'my.yaml'"),
        (("image",), "python -m serving.follower --bake --config 'my.yaml'"),
        (("doctor",), "doctor --needs training --config 'my.yaml'"),
        (("promote",), "-P 'config=my.yaml'"),
        (("train", "SALES=simulated"), "-P 'config=my.yaml'"),
        (("price-test",), "-P 'config=my.yaml'"),
        (("holdout",), "holdout --config 'my.yaml'"),
    ],
)
def test_a_configuration_reaches_the_program(words: tuple[str, ...], command: str) -> None:
    assert command in dry_run(*words, "CONFIG=my.yaml").stdout


@pytest.mark.parametrize("words", [("serve",), ("image",), ("doctor",), ("promote",), ("train", "SALES=simulated")])
def test_without_a_configuration_none_is_passed(words: tuple[str, ...]) -> None:
    shown = dry_run(*words).stdout

    assert shown
    assert "--config" not in shown
    assert "-P 'config" not in shown


def test_a_configuration_in_the_environment_reaches_the_program_too() -> None:
    assert "python -m serving --config 'my.yaml'" in dry_run("serve", CONFIG="my.yaml").stdout


@pytest.mark.parametrize("words", [("demo",), ("test",), ("bench",), (), ("serve", "reports")])
def test_a_target_that_would_ignore_a_configuration_refuses_it(words: tuple[str, ...]) -> None:
    done = dry_run(*words, "CONFIG=my.yaml")

    assert done.returncode != 0
    assert "takes no CONFIG, and would ignore my.yaml; these take one: doctor notebook etl train" in done.stderr
