"""Standard output whose reader may leave, as `| head` does: what is printed then goes nowhere, and the job goes on."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class _Patient(io.TextIOBase):
    def __init__(self, outer: TextIO) -> None:
        self._outer = outer

    def write(self, text: str) -> int:
        try:
            return self._outer.write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._outer.flush()
        except BrokenPipeError:
            self._let_go()

    def fileno(self) -> int:
        return self._outer.fileno()

    def isatty(self) -> bool:
        return self._outer.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._outer.encoding

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._outer.fileno())
        os.close(nowhere)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Whatever is printed inside never ends the job for want of a reader."""
    outer = sys.stdout
    sys.stdout = patient = _Patient(outer)
    try:
        yield
    finally:
        patient.flush()
        sys.stdout = outer
