"""What a fetched version must pass before any worker may map it."""

import logging
from pathlib import Path

from pricing.registry.version import load
from serving import price_tests
from serving.settings import Settings

_log = logging.getLogger(__name__)


def admit(folder: Path, *, settings: Settings | None = None) -> int:
    """Loads a version, checksums and all, lets it answer its golden requests, and returns how many they were.

    Where a trial is configured, its new products are dealt.

    Raises:
        VersionError: It cannot be loaded here, or does not answer as it did when it was packed.
    """
    version = load(folder)
    requests = version.verify().requests
    if settings is not None:
        share = price_tests.canary(settings.config.serving.challenger_share)
        for path, trial in ((settings.trial_file, settings.config.serving.trial), (settings.canary_file, share)):
            try:
                if trial is not None:
                    price_tests.extend(path, version.facts, trial)
            except OSError as error:
                _log.error("%s cannot be written: %s; the workers deal the same for themselves", path, error)
    return requests
