"""Files under PRICING_HOME that all tasks share: each mirrors a document in the platform's database.

They are the list of held-out products, the plan of price tests, and who takes part in a strategy test or is priced by
the challenger. Without PRICING_DATABASE_URL the files are all there is.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pricing.errors import RegistryError
from pricing.fileio import replace_text
from pricing.paths import pricing_home
from pricing.registry.documents import DocumentChangedError, SharedDocuments
from pricing.runtime.shared_state import actor, given_database_url

_ATTEMPTS = 5  # at an edit that others overtake
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


class SharedFiles:
    """Files under PRICING_HOME that mirror the shared documents of the same relative paths.

    Whoever reads one goes on reading the file, so that what was known last stays in force while the database is away.
    Without a database the files are on their own, and every method leaves them as they are.
    """

    def __init__(self, home: Path, documents: SharedDocuments | None, *, who: str) -> None:
        """Connects to nothing yet.

        Args:
            home: PRICING_HOME.
            documents: The documents; None where no database is configured.
            who: The person or job that edits them.
        """
        self._home, self._documents, self._who = home, documents, who
        self._seen: dict[Path, str] = {}  # file → the stamp of its document

    @property
    def shared(self) -> bool:
        """Whether there is a database that they mirror."""
        return self._documents is not None

    def mirror(self, *paths: Path) -> list[Path]:
        """Writes those files whose documents were written since they were looked at last, and returns them.

        A document that was never written leaves its file as it is.

        Raises:
            RegistryError: The database does not answer; every file stays as it is.
            OSError: A file cannot be written.
        """
        if self._documents is None:
            return []
        stamps, written = self._documents.stamps(), []
        for path in paths:
            stamp = stamps.get(self._name(path))
            if stamp is None or (stamp == self._seen.get(path) and path.exists()):
                continue
            document = self._documents.read(self._name(path))
            if document is not None:
                if _text(path) != document.content:
                    replace_text(path, document.content)
                    written.append(path)
                self._seen[path] = stamp  # where it was written since, the next look reads it again
        return written

    def refresh(self, *paths: Path) -> bool:
        """Brings files up to date for a job that is about to read them, or says that the database is away.

        A file whose document was never written becomes that document: it is from before there was a database.

        Returns:
            Whether the files are what all tasks share; False while the database is away.
        """
        if self._documents is None:
            return True
        try:
            known = self._documents.stamps()
            for path in paths:
                text = _text(path)
                if self._name(path) not in known and text is not None and _is_document(text):
                    with suppress(DocumentChangedError):
                        self._documents.replace(self._name(path), text, expected=0, who=self._who)
            self.mirror(*paths)
        except (RegistryError, OSError) as error:
            _log.warning("%s; what lies in %s is taken to be in force", error, self._home)
            return False
        return True

    def edit(self, path: Path, change: Callable[[Path], Result]) -> Result:
        """Changes a file, and its document with it; where another process is faster the change is made anew.

        Args:
            path: The file.
            change: Reads the file that it is given and writes it anew; may be called several times.

        Returns:
            What `change` returned.

        Raises:
            RegistryError: The database does not answer, and nothing was written.
            OSError: The file cannot be written.
        """
        if self._documents is None:
            return change(path)
        for _ in range(_ATTEMPTS):
            known = self._documents.read(self._name(path))
            before = _text(path) if known is None else known.content
            with tempfile.TemporaryDirectory(prefix="pricing-") as folder:
                draft = Path(folder) / path.name
                if before is not None:
                    draft.write_text(before, encoding="utf-8")
                result = change(draft)
                after = _text(draft)
            if after is None:
                return result
            try:
                if known is None or after != known.content:
                    version = 0 if known is None else known.version
                    self._documents.replace(self._name(path), after, expected=version, who=self._who)
            except DocumentChangedError:
                continue
            if _text(path) != after:
                replace_text(path, after)
            return result
        raise DocumentChangedError(f"{self._name(path)} was changed {_ATTEMPTS} times meanwhile: run it again")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._home).as_posix()


def job_files(model: str) -> SharedFiles:
    """The shared files of a job, as its environment says.

    Args:
        model: The registered model's name.

    Raises:
        RegistryError: PRICING_DATABASE_URL cannot be understood.
    """
    url = given_database_url()
    return SharedFiles(pricing_home(), SharedDocuments(url, model=model) if url else None, who=actor())


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")  # a damaged one differs from its document
    except FileNotFoundError:
        return None


def _is_document(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
