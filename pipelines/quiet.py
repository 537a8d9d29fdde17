"""Import TensorFlow without the messages that it writes to standard error on import (missing GPUs)."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def import_tensorflow() -> None:
    """Imports `pricing.demand.network` with standard error suppressed, but shown when the import fails."""
    with _unsaid():
        importlib.import_module("pricing.demand.network")


@contextmanager
def _unsaid() -> Iterator[None]:
    """Captures file descriptor 2, native libraries included; writes it out only when the block raises."""
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        original_stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            captured.seek(0)
            os.write(original_stderr, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original_stderr, 2)
            os.close(original_stderr)
