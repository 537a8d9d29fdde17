"""Import TensorFlow without the messages that it writes to standard error on import (missing GPUs)."""

import importlib
import os
import sys
import tempfile


def import_tensorflow() -> None:
    """Imports `pricing.demand.network` with standard error suppressed, but shown when the import fails.

    TensorFlow's libraries write to the file descriptor itself, past `sys.stderr`.
    """
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        original = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            importlib.import_module("pricing.demand.network")
        except BaseException:
            captured.seek(0)
            os.write(original, captured.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
