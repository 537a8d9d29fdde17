"""Write files atomically; set database drivers of URLs, and hide their passwords; stamp records with moments."""

import datetime as dt
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HIDDEN = "***"
_DRIVERS = {
    "postgres": "postgresql",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
# The user and password of a URL in a text, also of one whose colon was forgotten.
_LOGIN = re.compile(r"(?<=://)[^/\s\"']+@|(?<=\w//)[^/\s\"'@:]*:[^/\s\"']+@")
# The same of a URL by itself, whose password may hold anything, and of one whose scheme, colon or slash was forgotten.
_WHOLE_LOGIN = re.compile(
    r"(?<=://)(?<!s3://)(?<!sqlite://).*@|(?<=s3://)[^/]*@|^[^/\s\"'@:]+:/?[^/\s\"'@][^\s\"'@]*@|(?<=\w//)[^/\s@:]*:.*@"
)
# What follows the first colon of an address is a password unless it is a port; so, too, where it holds / or #.
_PASSWORDS = (
    re.compile(r"^[a-z0-9+]+://(?!\[)[^/@#?\s:]*:(?!@|\d*(?:[/?#]|$)|\$\{\w+\}(?:[@/?#]|$))", re.IGNORECASE),
    re.compile(r"^[^/@#?\s:]+:/?[^/@\s][^@\s]*@"),  # a slash or the scheme was forgotten
    re.compile(r"^[\w+]+//[^/@#?\s:]*:[^@\s]*@"),  # the colon was
    re.compile(r"^[^#]*[?&](?:ssl)?(?:password|passwd|pwd)=(?!\$\{\w+\}(?:[&#]|$))", re.IGNORECASE),
)
_CUT_PASSWORD = re.compile(r"[^:/]*:[^@]*@[^/?]*@")  # the rest of an address whose password ends at an @ of its own
_SECRET = re.compile(r"(?<=[?&])((?:password|passwd|sslpassword|token|secret)=)[^&#\s\"']+", re.IGNORECASE)


@contextmanager
def replace_atomically(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a draft beside a file, which replaces the file at the end, or is removed where writing fails.

    A reader finds the old content or the new one, never a part; `durable`, also after a power cut, which waits for the
    disk. The file's folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        yield draft
        if durable:
            _sync(draft)
        draft.replace(path)
        if durable:
            _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def replace_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes a text file atomically; see `replace_atomically`."""
    with replace_atomically(path, durable=durable) as draft:
        draft.write_text(text, encoding="utf-8")


def with_driver(url: str) -> str:
    """A database URL as SQLAlchemy opens it with what is installed: by itself it takes a compiled driver for MySQL.

    Raises ValueError where a password holds an @ that is not written as %40: what follows it would be shown as a host.
    """
    scheme, separator, rest = url.partition("://")
    if _CUT_PASSWORD.match(rest):
        raise ValueError("a password with an @ that is not written as %40")
    return f"{_DRIVERS[scheme]}://{rest}" if separator and scheme in _DRIVERS else url


def holds_password(where: str) -> bool:
    """Tells whether a text is an address, also a mistyped one, with a password that is not the name of a variable."""
    return any(pattern.search(where) for pattern in _PASSWORDS)


def redact_url(where: str) -> str:
    """Hides user and password of a URL, also among its query's parameters; a path stays as it is."""
    return _SECRET.sub(rf"\g<1>{HIDDEN}", _WHOLE_LOGIN.sub(f"{HIDDEN}@", where))


def redact_text(text: str) -> str:
    """Hides user and password of every URL in a text, such as an error message."""
    return _SECRET.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text)) if "//" in text else text


def utc_stamp(moment: dt.datetime) -> str:
    """A moment with a time zone as records keep it: UTC in ISO 8601, to the second."""
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
