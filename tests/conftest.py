"""What every test runs with: how many examples a law gets, and compiled modules for the processes that tests start."""

import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from hypothesis import settings
from sqlalchemy import Engine, event

# A law tries few examples while you work; CI asks for more with HYPOTHESIS_PROFILE=thorough. A test sets its own number
# only where an example costs much.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=150, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Jobs, servers and pytest's workers import TensorFlow and MLflow, 5,000 modules, which takes 15 s of CPU each time
# where PYTHONDONTWRITEBYTECODE (common in containers) leaves nothing compiled. Tests then keep that in a folder apart.
if sys.dont_write_bytecode:
    compiled = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(compiled))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False


# Nothing here survives a power cut anyway: no commit of a test waits for the disk.
@event.listens_for(Engine, "connect")
def _unsynchronised(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
