"""Log what a batch decided, as serving does."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from pricing.decision.detailed import DetailedDecision
from pricing.decision.request import PriceRequest
from pricing.decision_log.format import LogEntry
from pricing.decision_log.writer import LogWriter
from pricing.errors import SourceError

_FLUSH = 1000  # decisions written at once

NumberedAnswer = tuple[int, PriceRequest, DetailedDecision]  # with the row's number from 1


def log_decisions(answers: Sequence[NumberedAnswer], folder: Path) -> None:
    """Appends decisions whose prices go on the shelf to the decision log, before anybody sees them.

    Args:
        answers: The decisions.
        folder: The decision log's.

    Raises:
        SourceError: The log cannot be written.
    """
    if not answers:
        return
    at, log = dt.datetime.now(dt.UTC), LogWriter(folder)
    for start in range(0, len(answers), _FLUSH):
        part = answers[start : start + _FLUSH]
        log.append([LogEntry.of(asked, answer, at=at) for _, asked, answer in part])
        log.flush()  # rather than let what waits for the disk grow
    log.close()
    status = log.status()
    if status.written < status.issued:
        raise SourceError(
            f"{folder}: only {status.written:,} of {status.issued:,} decisions could be logged ({status.failure}), and "
            "no price was written: monitoring could not tell what came of them. Make the folder writable and run again"
        )
