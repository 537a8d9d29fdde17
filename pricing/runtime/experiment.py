"""The MLflow experiment of all jobs: which it is, and that it is made with its artifacts beside a local database.

`python -m pricing.runtime.experiment` prints the option that lets `mlflow run` write there, too. MLflow would take
`Default` for it, and make a new experiment in ./mlruns, wherever the tracking database lies.
"""

import sys

from pricing.runtime.cli import job


@job("experiment", config=False)
def main() -> int:
    """Prints the option that names the jobs' experiment."""
    from pricing.runtime.mlflow_runs import connect, experiment_id  # noqa: PLC0415 - importing mlflow takes a second

    connect()
    print(f"--experiment-id={experiment_id()}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
