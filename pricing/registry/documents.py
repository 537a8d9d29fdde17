"""Small documents that all tasks share: kept in the platform's database, mirrored to files under PRICING_HOME.

They are the list of held-out products, the plan of price tests, and who takes part in a strategy test or is priced by
the challenger. Without PRICING_DATABASE_URL the files are all there is.
"""

import datetime as dt
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Integer, MetaData, String, Table, inspect, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url, replace_text
from pricing.registry.database import create_tables, open_engine

_WAIT_SECONDS = 5  # for a connection and for a statement: documents are looked at every few seconds
_ATTEMPTS = 5  # at an edit that others overtake
_METADATA = MetaData()
_TABLE = Table(
    "pricing_documents",
    _METADATA,
    Column("model", String(300), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("content", String, nullable=False),
    Column("at", String(40), nullable=False),
    Column("who", String(300), nullable=False),
)
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


class DocumentChangedError(RegistryError):
    """Another process has written the document meanwhile."""


@dataclass(frozen=True)
class Document:
    """A document as it was read.

    Attributes:
        version: How often it was written, from 1.
        content: The text of its file.
    """

    version: int
    content: str


class SharedDocuments:
    """The documents of one registered model.

    Every method raises RegistryError, in one line, within seconds when the database does not answer or refuses.
    """

    def __init__(self, url: str, *, model: str) -> None:
        """Opens the database, PostgreSQL or SQLite; makes nothing in it.

        Args:
            url: An SQLAlchemy URL.
            model: The registered model's name: shops that share a database share no document.
        """
        self._model, self._name, self._made = model, redact_url(url), False
        with self._translated_errors():
            self._engine = open_engine(url, lock_seconds=_WAIT_SECONDS, statement_seconds=_WAIT_SECONDS)

    def read(self, name: str) -> Document | None:
        """The newest version of a document; None where it was never written."""
        query = select(_TABLE.c.version, _TABLE.c.content).where(*self._is(name))
        with self._translated_errors(), self._connected() as connection:
            row = None if connection is None else connection.execute(query).first()
        return None if row is None else Document(int(row.version), str(row.content))

    def versions(self) -> dict[str, int]:
        """Name → version of every document: a look that costs less than reading them."""
        query = select(_TABLE.c.name, _TABLE.c.version).where(_TABLE.c.model == self._model)
        with self._translated_errors(), self._connected() as connection:
            rows = () if connection is None else connection.execute(query).all()
        return {str(row.name): int(row.version) for row in rows}

    def replace(self, name: str, content: str, *, expected: int, who: str) -> Document:
        """Writes a document where it is still the version that was read, and returns the new one.

        Args:
            name: Its name.
            content: Its new text.
            expected: The version that was read; 0 where there was none.
            who: The person or job that writes.

        Raises:
            DocumentChangedError: Another process has written it meanwhile.
            RegistryError: The database does not answer or refuses.
        """
        written = Document(expected + 1, content)
        at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        values = {"version": written.version, "content": content, "at": at, "who": who}
        changed = f"{name} was changed by another process meanwhile; nothing was written: run it again"
        with self._translated_errors():
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
            create_tables(self._engine, _METADATA)
            try:
                with self._engine.begin() as connection:
                    if expected:
                        still = update(_TABLE).where(*self._is(name), _TABLE.c.version == expected)
                        taken = connection.execute(still.values(**values)).rowcount
                    else:
                        taken = 1
                        connection.execute(_TABLE.insert().values(model=self._model, name=name, **values))
            except IntegrityError as error:
                raise DocumentChangedError(changed) from error
        if not taken:
            raise DocumentChangedError(changed)
        return written

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @property
    def _file(self) -> Path | None:
        """The file of an SQLite database."""
        url = self._engine.url
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    @contextmanager
    def _connected(self) -> Iterator[Connection | None]:
        """A connection to read by; None where nobody has ever made the table, or the file of SQLite."""
        if not self._made and self._file is not None and not self._file.exists():
            yield None
            return
        with self._engine.connect() as connection:
            self._made = self._made or inspect(connection).has_table(_TABLE.name)
            yield connection if self._made else None

    def _is(self, name: str) -> tuple[ColumnElement[bool], ...]:
        return _TABLE.c.model == self._model, _TABLE.c.name == name

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise RegistryError(f"shared documents {self._name} (PRICING_DATABASE_URL): {first_line(error)}") from error


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
        self._seen: dict[Path, int] = {}

    @property
    def shared(self) -> bool:
        """Whether there is a database that they mirror."""
        return self._documents is not None

    def mirror(self, *paths: Path) -> list[Path]:
        """Writes those files whose documents are newer than when they were looked at last, and returns them.

        A document that was never written leaves its file as it is.

        Raises:
            RegistryError: The database does not answer; every file stays as it is.
            OSError: A file cannot be written.
        """
        if self._documents is None:
            return []
        versions, written = self._documents.versions(), []
        for path in paths:
            version = versions.get(self._name(path))
            if version is None or (version == self._seen.get(path) and path.exists()):
                continue
            document = self._documents.read(self._name(path))
            if document is not None:
                if _text(path) != document.content:
                    replace_text(path, document.content)
                    written.append(path)
                self._seen[path] = document.version
        return written

    def refresh(self, *paths: Path) -> None:
        """Brings files up to date for a job that is about to read them, or says that the database is away.

        A file whose document was never written becomes that document: it is from before there was a database.
        """
        if self._documents is None:
            return
        try:
            versions = self._documents.versions()
            for path in paths:
                text = _text(path)
                if self._name(path) not in versions and text is not None and _is_document(text):
                    with suppress(DocumentChangedError):
                        self._documents.replace(self._name(path), text, expected=0, who=self._who)
            self.mirror(*paths)
        except (RegistryError, OSError) as error:
            _log.warning("%s; what lies in %s is taken to be in force", error, self._home)

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
                    known = self._documents.replace(self._name(path), after, expected=version, who=self._who)
            except DocumentChangedError:
                continue
            if _text(path) != after:
                replace_text(path, after)
            self._seen[path] = known.version
            return result
        raise DocumentChangedError(f"{self._name(path)} was changed {_ATTEMPTS} times meanwhile: run it again")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._home).as_posix()


def shared_files(home: Path, url: str | None, *, model: str, who: str) -> SharedFiles:
    """The files under PRICING_HOME that tasks share.

    Args:
        home: PRICING_HOME.
        url: The database; None where none is configured, so that the files are on their own.
        model: The registered model's name.
        who: The person or job that edits them.

    Raises:
        RegistryError: The URL cannot be understood.
    """
    return SharedFiles(home, SharedDocuments(url, model=model) if url else None, who=who)


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
