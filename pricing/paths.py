"""Where programs keep things on this machine: the tracking store, PRICING_HOME, and whose process is alive there.

Environment variables by which one program tells another are named here, so that both mean the same.
"""

import os
import tempfile
from pathlib import Path

CODE = Path(__file__).resolve().parent.parent  # what holds our packages: a checkout, or site-packages
CHECKOUT = (CODE / "MLproject").is_file()
ROOT = CODE if CHECKOUT else Path.cwd()  # the project's root; installed, the folder that a command was issued from
_PACKAGED = CODE / "pricing" / "defaults"  # where the wheel has what is config/ in a checkout
SETTINGS = _PACKAGED if _PACKAGED.is_dir() else CODE / "config"
SQLITE = "sqlite:///"
PARENT_VARIABLE = "PRICING_PARENT_RUN_ID"  # the MLflow run of the job that started this one
ARCHIVE_VARIABLE = "PRICING_DECISIONS_ARCHIVE"  # where old decisions are kept: a folder or an s3:// address


def tracking_uri() -> str:
    """Says where runs are recorded: MLFLOW_TRACKING_URI, or mlflow.db at the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{ROOT / 'mlflow.db'}"


def pricing_home() -> Path:
    """Says where everything else local is kept: PRICING_HOME, or .pricing at the project's root.

    `mlflow run GIT-URL` executes in a temporary clone, whose .pricing would be lost with it; there the home lies
    beside the local tracking database, which is in the folder that the command was issued from.
    """
    given = os.environ.get("PRICING_HOME")
    if given:
        return Path(given)
    in_clone = "MLFLOW_RUN_ID" in os.environ and ROOT.is_relative_to(Path(tempfile.gettempdir()).resolve())
    if in_clone and tracking_uri().startswith(f"{SQLITE}/"):
        return Path(tracking_uri().removeprefix(SQLITE)).parent / ".pricing"
    return ROOT / ".pricing"


def process_alive(pid: int) -> bool:
    """Whether a process of this machine still exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
