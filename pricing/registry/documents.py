"""Small documents that all tasks share, in the platform's database: the text of a file and how often it was written."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Integer, MetaData, String, Table, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url
from pricing.registry.database import create_tables, make_folder, open_engine, reading

_WAIT_SECONDS = 5  # for a connection and for a statement: documents are looked at every few seconds
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
        self._model, self._name = model, redact_url(url)
        with self._translated_errors():
            self._engine = open_engine(url, lock_seconds=_WAIT_SECONDS, statement_seconds=_WAIT_SECONDS)

    def read(self, name: str) -> Document | None:
        """The newest version of a document; None where it was never written."""
        query = select(_TABLE.c.version, _TABLE.c.content).where(*self._is(name))
        with self._translated_errors(), reading(self._engine, _TABLE) as connection:
            row = None if connection is None else connection.execute(query).first()
        return None if row is None else Document(int(row.version), str(row.content))

    def stamps(self) -> dict[str, str]:
        """Name → a text that differs after every write, for each document: a look that costs less than reading them.

        It holds the version and the time: a database that was restored from a copy gives the same version twice.
        """
        query = select(_TABLE.c.name, _TABLE.c.version, _TABLE.c.at).where(_TABLE.c.model == self._model)
        with self._translated_errors(), reading(self._engine, _TABLE) as connection:
            rows = () if connection is None else connection.execute(query).all()
        return {str(row.name): f"{row.version} {row.at}" for row in rows}

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
        at = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        values = {"version": written.version, "content": content, "at": at, "who": who}
        changed = f"{name} was changed by another process meanwhile; nothing was written: run it again"
        with self._translated_errors():
            make_folder(self._engine)
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

    def _is(self, name: str) -> tuple[ColumnElement[bool], ...]:
        return _TABLE.c.model == self._model, _TABLE.c.name == name

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError, OSError) as error:
            raise RegistryError(f"shared documents {self._name} (PRICING_DATABASE_URL): {first_line(error)}") from error
