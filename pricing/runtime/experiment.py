"""The MLflow experiment of all jobs: which it is, and that it is made with its artifacts beside a local database.

`python -m pricing.runtime.experiment` prints the option that lets `mlflow run` write there, too. MLflow would take
`Default` for it, and make a new experiment in ./mlruns, wherever the tracking database lies.
"""

import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pricing.paths import SQLITE, tracking_uri
from pricing.runtime.cli import job

EXPERIMENT = "pricing"


@job("experiment", config=False)
def main() -> int:
    """Prints the option that names the jobs' experiment."""
    name, number = chosen_experiment(os.environ)
    if number is None and missing(name, uri=tracking_uri()):
        from pricing.runtime.mlflow_runs import connect, experiment_id  # noqa: PLC0415 - importing MLflow takes seconds

        connect()
        experiment_id()
    # One word as it is, so that a shell passes it on as "$option": a name may have spaces.
    print(f"--experiment-name={name}" if number is None else f"--experiment-id={number}")  # noqa: T201
    return 0


def chosen_experiment(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The experiment's name, and its ID where only that is given.

    MLFLOW_EXPERIMENT_NAME counts for more than MLFLOW_EXPERIMENT_ID; without either it is EXPERIMENT.
    """
    name, number = environment.get("MLFLOW_EXPERIMENT_NAME"), environment.get("MLFLOW_EXPERIMENT_ID")
    return name or EXPERIMENT, None if name else number or None


def missing(name: str, *, uri: str) -> bool:
    """Tells whether a local database lacks the experiment; a server places artifacts itself, whoever makes one."""
    if not uri.startswith(SQLITE):
        return False
    path = Path(uri.removeprefix(SQLITE)).absolute()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as store:
            return store.execute("select 1 from experiments where name = ?", [name]).fetchone() is None
    except sqlite3.Error:  # no database yet, or one without tables: MLflow makes both
        return True


if __name__ == "__main__":
    sys.exit(main())
