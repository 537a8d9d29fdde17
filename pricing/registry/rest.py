"""Read the model registry over MLflow's REST interface, without MLflow, whose import takes longer than all of this.

For whoever only follows: an alias, a version, the files of a version that the server hands out itself.
"""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from pricing.errors import RegistryError, first_line
from pricing.registry import files

ARTIFACT = "version"  # the folder of a version's files among a logged model's artefacts
_API = "/api/2.0/mlflow"
_PROXIED = "mlflow-artifacts:/"  # artefacts that the server hands out itself
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PIECE = 1 << 20  # bytes that are read at a time
_AT_ONCE = 8  # files that are fetched at the same time
# Ways to reach a server that MLflow's own client alone knows.
_ONLY_MLFLOW = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_WORKSPACE",
)


@dataclass(frozen=True)
class ListedVersion:
    """A version as the registry lists it.

    Attributes:
        number: Its number.
        created_ms: When it was registered, milliseconds since 1970 UTC.
    """

    number: str
    created_ms: int


class ElsewhereError(RegistryError):
    """The files of a version lie where the server does not hand them out: MLflow's own client has to fetch them."""


def can_read(uri: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a registry is a server that this client can reach; MLflow's own client knows more ways.

    Args:
        uri: The registry's address.
        environment: Has MLflow's variables.
    """
    credentials = Path.home() / ".mlflow" / "credentials"
    return (
        uri.startswith(("http://", "https://"))
        and not any(environment.get(name, "").lower() not in ("", "0", "false") for name in _ONLY_MLFLOW)
        and not credentials.exists()
    )


def alias_is_missing(code: str, message: str) -> bool:
    """Whether an error of MLflow's says that an alias, or its model, does not exist.

    Args:
        code: Its `error_code`.
        message: Its text: a missing alias is INVALID_PARAMETER_VALUE, as is a name that cannot be one.
    """
    if code == "RESOURCE_DOES_NOT_EXIST":
        return True
    return code == "INVALID_PARAMETER_VALUE" and re.search(r"alias .* not found", message, re.IGNORECASE) is not None


class RestRegistry:
    """One registered model on one MLflow server, to be read only.

    Every method raises RegistryError, in one line, when the server does not answer or refuses.
    """

    def __init__(self, model_name: str, *, uri: str, environment: Mapping[str, str] = os.environ) -> None:
        """Opens no connection yet.

        Args:
            model_name: The registered model.
            uri: Address of the server.
            environment: MLflow's variables: user, password, token, certificates, seconds to wait for an answer.
        """
        self.model_name, self.uri = model_name, uri
        self._base = uri.rstrip("/")
        self._seconds = float(environment.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or 5)
        self._session = _session(environment)
        # With each call, since requests lets the variables of its own certificates go before those of a session.
        self._verify: bool | str = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
        if environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
            self._verify = False

    def at(self, alias: str) -> ListedVersion | None:
        """The version that an alias names; None where it, or the model, does not exist. One call of the server."""
        return self._listed("registered-models/alias", alias=alias)

    def version(self, number: str) -> ListedVersion | None:
        """The version of a number; None where there is none."""
        return self._listed("model-versions/get", version=number)

    def download(self, reference: str, to: Path) -> Path:
        """Downloads the folder of the version of a number into the new folder `to`, which appears only when complete.

        Raises:
            RegistryError: The version is unknown, its files are gone, or `to` exists.
            ElsewhereError: The server does not hand out its files.
            VersionError: It has more or larger files than a version has; nothing is downloaded.
        """
        what = f"version {reference} of {self.model_name}"
        found = self._get("model-versions/get-download-uri", version=reference)
        where = str(found.get("artifact_uri", ""))
        if not where.startswith(_PROXIED) or where.startswith(f"{_PROXIED}/"):
            raise ElsewhereError(f"registry {self.uri}: the files of {what} lie in {where}")
        root = f"{where.removeprefix(_PROXIED).strip('/')}/artifacts/{ARTIFACT}"
        names = self._files(root, what=what)
        if files.HEADER not in names:
            raise RegistryError(f"{what} on {self.uri} holds no {files.HEADER}")
        with files.appearing(to) as partial, ThreadPoolExecutor(_AT_ONCE) as pool, self._translated_errors():
            for folder in {(partial / name).parent for name in names}:
                folder.mkdir(parents=True, exist_ok=True)
            # A loop, so that the first error is raised here.
            for _ in pool.map(lambda name: self._fetch(f"{root}/{name}", partial / name, names[name]), names):
                pass
        return to

    def _listed(self, endpoint: str, **asked: str) -> ListedVersion | None:
        found = self._get(endpoint, may_be_missing=True, **asked)
        if not found:
            return None
        try:
            version = found["model_version"]
            return ListedVersion(str(version["version"]), int(version.get("creation_timestamp") or 0))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RegistryError(f"registry {self.uri}: it answers no model version") from error

    def _get(self, endpoint: str, *, may_be_missing: bool = False, **asked: str) -> dict[str, Any]:
        """What an endpoint answers; nothing where what was asked for does not exist, and may."""
        with self._translated_errors():
            answer = self._ask(f"{_API}/{endpoint}", params={"name": self.model_name, **asked})
            body = _json(answer)
        if answer.ok and body is not None:
            return body
        code, message = (str((body or {}).get(name, "")) for name in ("error_code", "message"))
        if may_be_missing and (alias_is_missing(code, message) or (answer.status_code == 403 and self._is_unknown())):
            return {}
        said = message.strip().splitlines()[0] if message.strip() else f"it answers {answer.status_code} and no JSON"
        raise RegistryError(f"registry {self.uri}: {code + ': ' if code else ''}{said}")

    def _is_unknown(self) -> bool:
        """Whether the server does not know the model: one with accounts refuses what does not exist, as what it hides.

        An account that may read whatever there is finds each model by a search.
        """
        with self._translated_errors():
            answer = self._ask(f"{_API}/registered-models/search", params={"filter": f"name = '{self.model_name}'"})
            body = _json(answer)
        return answer.ok and body is not None and not body.get("registered_models")

    def _ask(self, path: str, *, params: Mapping[str, str] | None = None, stream: bool = False) -> requests.Response:
        return self._session.get(
            f"{self._base}{path}", params=params, timeout=self._seconds, verify=self._verify, stream=stream
        )

    def _files(self, root: str, *, what: str) -> dict[str, int]:
        """Path of each file below a folder of the server's artefacts → its bytes; refuses more than a version has."""
        found: dict[str, int] = {}
        folders, count, size = [""], 0, 0
        while folders:
            folder = folders.pop()
            with self._translated_errors():
                answer = self._ask(_PROXY, params={"path": posixpath.join(root, folder)})
                answer.raise_for_status()
                listed = (_json(answer) or {}).get("files", [])
            for one in listed:
                name = posixpath.basename(str(one.get("path", "")).rstrip("/"))
                if not _NAME.fullmatch(name) or not name.strip("."):
                    raise RegistryError(
                        f"registry {self.uri}: {what} lists {name[:60]!r}, which is no file of a version"
                    )
                count, size = count + 1, size + int(one.get("file_size") or 0)
                files.accept_size(files=count, size=size, where=what)
                path = posixpath.join(folder, name)
                if one.get("is_dir"):
                    folders.append(path)
                else:
                    found[path] = int(one.get("file_size") or 0)
        return found

    def _fetch(self, path: str, to: Path, size: int) -> None:
        """Writes one file of the server's artefacts; raises RegistryError where it is longer than was listed."""
        with self._ask(f"{_PROXY}/{quote(path)}", stream=True) as answer, to.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(_PIECE):
                size -= len(piece)
                if size < 0:
                    raise RegistryError(f"registry {self.uri}: {path} is longer than it was listed")
                file.write(piece)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, OSError) as error:
            raise RegistryError(f"registry {self.uri}: {first_line(error)}") from error


def _session(environment: Mapping[str, str]) -> requests.Session:
    """A session with the credentials that MLflow's client would use."""
    session = requests.Session()
    # Once more where a kept connection turns out to be closed; whoever follows asks again soon in any other case.
    retries = Retry(2, connect=0, read=1, status=0, other=0)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_AT_ONCE, max_retries=retries))
    user, password = (environment.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    if user and password:
        session.auth = (user, password)
    elif token:
        session.auth = lambda request: _with_token(request, token)
    session.cert = environment.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None
    return session


def _with_token(request: requests.PreparedRequest, token: str) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _json(answer: requests.Response) -> dict[str, Any] | None:
    """The JSON object that a server answered; None where it is none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
