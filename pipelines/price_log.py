"""Log what a batch decided, as serving does, and read the switches that it heeds."""

import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path

from pricing.decision.detailed import DetailedDecision
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switches, read_switches, switch_file
from pricing.decision_log.format import LogEntry
from pricing.decision_log.writer import LogWriter
from pricing.errors import RegistryError, SourceError
from pricing.paths import pricing_home
from pricing.registry.switch_record import SwitchRecord, in_force

_log = logging.getLogger(__name__)
_FLUSH = 1000  # decisions written at once

NumberedAnswer = tuple[int, PriceRequest, DetailedDecision]  # with the row's number from 1


def switches_in_force(model: str, *, url: str, now: dt.datetime) -> Switches:
    """The switches in force, from the database; while that is away those that the service on this machine knew last.

    Args:
        model: The registered model's name.
        url: The database's.
        now: The moment.

    Raises:
        SourceError: The database is away, and what was known last cannot be read.
    """
    try:
        record = SwitchRecord(url, model=model)
        try:
            return in_force(record.entries(), at=now)
        finally:
            record.close()
    except RegistryError as error:
        path = switch_file(pricing_home())
        _log.warning("%s; the switches that %s holds are taken to be in force", error, path)
        return read_switches(path).at(now)


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
