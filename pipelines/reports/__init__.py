"""Describe versions and sales for people: plots, pages and cards. None of them may cost a version."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def dispensable(artifact: str) -> Iterator[None]:
    """Lets an artifact fail without its run: the traceback is logged, and a line says what is missing."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever breaks a picture of a version, its training took minutes to hours
        _log.exception("%s could not be made", artifact)
        print(f"warning: {artifact} could not be made, and the run goes on without; the log says why", flush=True)
