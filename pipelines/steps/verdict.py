"""State the verdict of a job: in the run's tag and description, and on the screen."""

import mlflow

from pricing.runtime.mlflow_runs import set_run_description


def conclude(verdict: str, *, code: int = 0) -> int:
    """Leaves a verdict in the active run, prints it, and returns the job's exit code."""
    mlflow.set_tag("verdict", verdict)
    set_run_description(verdict)
    print(verdict, flush=True)
    return code


def nothing_to_do(why: str) -> int:
    """Leaves in the active run that the job changed nothing, prints why, and returns the job's exit code."""
    mlflow.set_tag("verdict", "nothing to do")
    set_run_description(f"Nothing to do: {why}.")
    print(f"nothing to do: {why}")
    return 0
