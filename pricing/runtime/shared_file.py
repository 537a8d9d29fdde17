"""The experiments that all tasks share: a file under PRICING_HOME that mirrors a document in the platform's database.

Without PRICING_DATABASE_URL the file is all there is.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from pricing.decision.experiments import (
    Experiments,
    as_text,
    experiments_file,
    experiments_in,
    read_experiments,
    write_experiments,
)
from pricing.errors import RegistryError
from pricing.fileio import replace_text
from pricing.paths import pricing_home
from pricing.registry.documents import DocumentChangedError, SharedDocuments
from pricing.runtime.shared_state import actor, given_database_url

_ATTEMPTS = 5  # at an edit that others overtake
_log = logging.getLogger(__name__)


class SharedFile:
    """The file of experiments. Whoever reads it reads the file, so that what was known last stays in force."""

    def __init__(self, path: Path, documents: SharedDocuments | None, *, who: str) -> None:
        """Connects to nothing yet.

        Args:
            path: The file, which has the document's name.
            documents: The documents; None where no database is configured.
            who: The person or job that edits it.
        """
        self._path, self._documents, self._who = path, documents, who
        self._seen = ""  # the stamp of the document that the file holds

    def mirror(self) -> bool:
        """Writes the file where its document was written since the last look; returns whether it did.

        Raises:
            RegistryError: The database does not answer; the file stays as it is.
            OSError: The file cannot be written.
        """
        if self._documents is None:
            return False
        stamp = self._documents.stamps().get(self._path.name)
        if stamp is None or (stamp == self._seen and self._path.exists()):
            return False
        document = self._documents.read(self._path.name)
        if document is not None:
            replace_text(self._path, document.content)
            self._seen = stamp  # where it was written since, the next look reads it again
        return document is not None

    def refresh(self) -> bool:
        """Brings the file up to date for a job that is about to read it; False while the database is away."""
        try:
            self.mirror()
        except (RegistryError, OSError) as error:
            _log.warning("%s; what %s says is taken to be in force", error, self._path)
            return False
        return True

    def edit(self, change: Callable[[Experiments], Experiments]) -> Experiments:
        """Changes the experiments, and returns them; where another process is faster the change is made anew.

        Raises:
            RegistryError: The database does not answer, and nothing was written.
            SourceError: The file holds no experiments.
            OSError: It cannot be written.
        """
        if self._documents is None:
            changed = change(read_experiments(self._path))
            write_experiments(self._path, changed)
            return changed
        for _ in range(_ATTEMPTS):
            known = self._documents.read(self._path.name)
            changed = change(experiments_in(known.content) if known else read_experiments(self._path))
            version = known.version if known else 0
            try:
                self._documents.replace(self._path.name, as_text(changed), expected=version, who=self._who)
            except DocumentChangedError:
                continue
            write_experiments(self._path, changed)
            return changed
        raise DocumentChangedError(f"{self._path.name} was changed {_ATTEMPTS} times meanwhile: run it again")


def shared_experiments(model: str) -> SharedFile:
    """The file of experiments of a job, as its environment says.

    Args:
        model: The registered model's name.

    Raises:
        RegistryError: PRICING_DATABASE_URL cannot be understood.
    """
    url = given_database_url()
    documents = SharedDocuments(url, model=model) if url else None
    return SharedFile(experiments_file(pricing_home()), documents, who=actor())
