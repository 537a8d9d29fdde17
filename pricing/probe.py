"""Whether the tracking store answers, asked within seconds where MLflow would try for minutes."""

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from pricing.errors import RegistryError, first_line
from pricing.fileio import redact_url

_SECONDS = 5
_DATABASES = ("postgresql", "mysql", "mssql")  # those that MLflow knows, besides the file of sqlite


def probe(uri: str) -> None:
    """Asks a tracking server or database once; an address of another kind, which MLflow knows or refuses, passes.

    Raises:
        RegistryError: It does not answer within 5 seconds, or cannot be one.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme in ("http", "https"):
        _probe_server(uri)
    elif separator and scheme.partition("+")[0] in _DATABASES:
        _probe_database(uri)


def _probe_server(uri: str) -> None:
    parts = urlsplit(uri)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))  # urllib takes no name and password
    try:
        with urllib.request.urlopen(f"{bare.rstrip('/')}/health", timeout=_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in shows at the first call
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RegistryError(
            f"{redact_url(uri)}: the tracking server does not answer ({error}); start it, or unset "
            "MLFLOW_TRACKING_URI to work on this machine alone"
        ) from error


def _probe_database(uri: str) -> None:
    shown = redact_url(uri)
    try:
        engine = create_engine(make_url(uri), connect_args={"connect_timeout": _SECONDS})
        engine.connect().close()
        engine.dispose()
    except (SQLAlchemyError, ImportError, TypeError) as error:
        hint = "; give postgresql+psycopg2://" if isinstance(error, ImportError) else ""
        raise RegistryError(f"{shown}: the tracking store cannot be opened: {first_line(error)}{hint}") from error
