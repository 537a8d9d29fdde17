"""Imports TensorFlow without its words on missing GPUs: it writes them before anything can tell it not to."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def import_tensorflow() -> None:
    """Imports what trains, its first words left out; they come out after all when the import fails."""
    with _unsaid():
        importlib.import_module("pricing.demand.network")


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keeps back what is written to standard error meanwhile, by whatever library, unless an error ends the block."""
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
