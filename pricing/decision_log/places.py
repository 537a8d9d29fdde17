"""Where the decision log lies: this machine's segments, what serving tasks uploaded, and the archive."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pricing.decision_log.archive import default_archive
from pricing.objects import check_address
from pricing.errors import ConfigError
from pricing.paths import ARCHIVE_VARIABLE, UPLOADS_VARIABLE, pricing_home


@dataclass(frozen=True)
class LogPlaces:
    """The parts of one decision log; a decision may be in several of them and counts once.

    Attributes:
        folder: Segments of this machine.
        uploads: Where serving tasks upload theirs, a folder or an s3:// address; None where they do not.
        archive: Where `serving.compact` puts closed segments and past days of the uploads, the same.
    """

    folder: Path
    uploads: str | None
    archive: str

    @property
    def readable(self) -> bool:
        """Whether there is a log: a machine that never decided a price, and is told of no other, has none."""
        return self.uploads is not None or self.folder.is_dir()


def log_places(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> LogPlaces:
    """The decision log in a folder, or, where none is given, that of PRICING_HOME with what the environment names.

    The archive is PRICING_DECISIONS_ARCHIVE; by default it lies below what serving tasks upload, where they do, so
    that every machine finds it, and otherwise beside the folder.
    """
    if given is not None:
        return LogPlaces(given, None, str(default_archive(given)))
    folder = pricing_home(environment) / "decisions"
    uploads = uploads_url(environment)
    archive = f"{uploads.rstrip('/')}/parquet" if uploads else str(default_archive(folder))
    return LogPlaces(folder, uploads, environment.get(ARCHIVE_VARIABLE) or archive)


def uploads_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """PRICING_DECISIONS_URL, where serving tasks upload their logs; None where it is not given.

    Raises:
        ConfigError: It is neither a folder nor s3://bucket/prefix.
    """
    given = environment.get(UPLOADS_VARIABLE) or None
    if given is not None:
        try:
            check_address(given)
        except ConfigError as error:
            raise ConfigError(f"{UPLOADS_VARIABLE}: {error}") from error
    return given
