"""Log what a batch decided, as serving does."""

import datetime as dt
import logging
from collections.abc import Sequence

from pricing.decision.detailed import DetailedDecision
from pricing.decision.request import PriceRequest
from pricing.decision_log.read import log_url
from pricing.decision_log.write import LogEntry, LogWriter, segments_folder
from pricing.errors import SourceError
from pricing.paths import pricing_home

_log = logging.getLogger(__name__)
_PATIENCE = 60.0  # seconds for the disk, and for the log's store

NumberedAnswer = tuple[int, PriceRequest, DetailedDecision]  # with the row's number from 1


def log_decisions(answers: Sequence[NumberedAnswer]) -> None:
    """Appends decisions whose prices go on the shelf to the decision log, before anybody sees them.

    Where the log's store is away they wait on this machine, until a later run or the service puts them.

    Raises:
        SourceError: They cannot be written to the disk.
    """
    if not answers:
        return
    at, folder = dt.datetime.now(dt.UTC), segments_folder(pricing_home())
    log = LogWriter(folder, url=log_url())
    log.append([LogEntry(asked, answer, at) for _, asked, answer in answers])
    log.close(seconds=_PATIENCE)
    status = log.status()
    if status.written < status.issued:
        raise SourceError(
            f"{folder}: only {status.written:,} of {status.issued:,} decisions could be logged ({status.failure}), and "
            "no price was written: monitoring could not tell what came of them. Make the folder writable and run again"
        )
    if status.waiting:
        _log.warning("%s: %d segment(s) of the decision log wait for %s", folder, status.waiting, log_url())
