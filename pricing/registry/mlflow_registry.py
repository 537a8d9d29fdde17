"""Client of the MLflow model registry: log, find and download versions, read and set aliases. Decides nothing."""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

import pricing
from pricing.errors import RegistryError, first_line
from pricing.registry import files

ARTIFACT = "version"  # the folder of a version's files among a logged model's artefacts

_SERVING_PACKAGES = ("holidays", "mlflow", "numpy", "pandas", "pydantic", "pyyaml")
DESCRIPTION_LIMIT = 5000  # characters that MLflow's databases keep of a version's description; PostgreSQL refuses more
_ABOUT = (
    "What sells at which price, and the price that follows. `champion` sets prices; `challenger` waits for the gates "
    "(`pricing promote`); `previous` is the last champion with other weights, to which `rollback` goes."
)
_TAGGED = (
    "kind",
    "parent",
    "weights",
    "backtest",
    "state_date",
    "products",
    "contract",
    "library",
    "checksum",
    "identified",  # the share of units whose elasticity is known
    "holds_only",
)
_MOST_VERSIONS = 100_000  # that are listed, some two hundred years of nights; MLflow takes twice as many


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as the registry lists it; `created_ms` counts from 1970 UTC."""

    number: str
    run_id: str
    created_ms: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """The hash of its weights; empty for a version that this library did not log."""
        return self.tags.get("weights", "")

    @property
    def checksum(self) -> str:
        """The checksum of its header, which lists those of its files; empty as `weights`."""
        return self.tags.get("checksum", "")


class Registry:
    """One registered model on one MLflow server or database.

    Every method raises RegistryError, in one line and within seconds, when that does not answer or lacks what was
    asked.
    """

    def __init__(self, model_name: str, *, uri: str) -> None:
        self.model_name = model_name
        self.uri = uri
        with self._translated_errors():
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def log_version(
        self, folder: str | Path, *, tags: Mapping[str, str] | None = None, description: str | None = None
    ) -> str:
        """Logs a packed version, a folder named `version`, as a pyfunc model under the active run; returns its number.

        Its tags are the given ones and its own kind, hashes and dates. The description, in Markdown, is cut to what
        fits.
        """
        if mlflow.active_run() is None or Path(folder).name != ARTIFACT:
            raise RegistryError(f"a version is logged under a run, from a folder {ARTIFACT}; found {folder}")
        header = files.read_header(Path(folder))
        package = Path(pricing.__file__).parent
        own = {name: str(header[name]).lower() for name in _TAGGED if header.get(name) is not None}
        with self._translated_errors(), warnings.catch_warnings():
            # MLflow asks for type hints to infer a schema from; ours is given, and its own classes lack them too.
            warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
            # These need pandas, which takes long to import.
            from mlflow.pyfunc import log_model  # noqa: PLC0415

            from pricing.registry.pyfunc import example, signature  # noqa: PLC0415

            info = log_model(
                name=self.model_name,
                python_model=str(package / "registry" / "pyfunc.py"),
                artifacts={ARTIFACT: str(folder)},
                code_paths=[str(package)],
                signature=signature(),
                input_example=example(header),
                pip_requirements=[f"{name}=={installed(name)}" for name in _SERVING_PACKAGES],
            )
            with suppress(MlflowException):  # it is there already, or the next call raises what is wrong
                self._client.create_registered_model(self.model_name, description=_ABOUT)
            created = self._client.create_model_version(
                self.model_name,
                source=info.model_uri,
                run_id=info.run_id,
                tags={**(tags or {}), **own},
                model_id=info.model_id,
                description=description and description[:DESCRIPTION_LIMIT],
            )
        return str(created.version)

    def identity(self) -> str:
        """Distinguishes this registry's model from others of its name; RegistryError where it does not exist yet."""
        model = self._model()
        if model is None:
            raise RegistryError(f"registry {self.uri}: has no model {self.model_name} yet; train one first")
        return f"{self.model_name}@{model.creation_timestamp}"

    def find(self, reference: str) -> RegisteredVersion:
        """The version that a number or an alias names; RegistryError where there is none."""
        for version in self.versions():
            if reference in (version.number, *version.aliases):
                return version
        known = ", ".join(sorted(self.aliases())) or "none; train a model first"
        raise RegistryError(f"{self.model_name} has no version or alias {reference!r} on {self.uri}; aliases: {known}")

    def at(self, alias: str) -> RegisteredVersion | None:
        """The version that an alias names; None when it is not set."""
        return next((version for version in self.versions() if alias in version.aliases), None)

    def aliases(self) -> dict[str, str]:
        """Alias → version number; empty when the model does not exist yet."""
        model = self._model()
        return {} if model is None else {str(alias): str(number) for alias, number in dict(model.aliases).items()}

    def versions(self) -> list[RegisteredVersion]:
        """Every version there is, oldest first."""
        named = self.aliases()
        with self._translated_errors():
            found = self._client.search_model_versions(f"name = '{self.model_name}'", max_results=_MOST_VERSIONS)
        listed = [
            RegisteredVersion(
                number=str(entry.version),
                run_id=str(entry.run_id or ""),
                created_ms=int(entry.creation_timestamp or 0),
                aliases=tuple(sorted(alias for alias, number in named.items() if number == str(entry.version))),
                tags=dict(entry.tags),
            )
            for entry in found
        ]
        return sorted(listed, key=lambda version: int(version.number))

    def set_alias(self, alias: str, number: str) -> None:
        """Sets an alias to a version, whatever it named before."""
        with self._translated_errors():
            self._client.set_registered_model_alias(self.model_name, alias, number)

    def remove_alias(self, alias: str) -> None:
        """Removes an alias; does nothing where it is not set."""
        with self._translated_errors():
            self._client.delete_registered_model_alias(self.model_name, alias)

    def delete(self, number: str) -> None:
        """Deletes a version and its files, but for files that a copy of it shares; its run stays.

        Files go first: else a version that cannot be deleted would no longer be listed.
        """
        with self._translated_errors():
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

            entry = self._client.get_model_version(self.model_name, number)
            copies = self._client.search_model_versions(f"run_id = '{entry.run_id}'")  # it, and any of another source
            place_of = self._client.get_model_version_download_uri
            place = place_of(self.model_name, number)
            shared = [place_of(copy.name, copy.version) for copy in copies].count(place) > 1
            if not shared:
                get_artifact_repository(place, tracking_uri=self.uri).delete_artifacts()  # type: ignore[no-untyped-call]
            self._client.delete_model_version(self.model_name, number)
            source = str(entry.source)
            if not shared and source.startswith("models:/m-"):  # the databases do not fill in the entry's `model_id`
                self._client.delete_logged_model(source.removeprefix("models:/"))

    def download(self, reference: str, to: str | Path) -> Path:
        """Downloads a version, which becomes the new folder `to` when it is complete; see `files.read`.

        The versions of its partitions stay where they are: `content` fetches one.

        Raises:
            RegistryError: The version is unknown, or its files are gone.
            VersionError: Something is in the way.
        """
        folder = Path(to)
        entry = self.find(reference)
        with self._translated_errors(), files.appearing(folder) as partial:
            repository = self._files(entry.number)
            listed = repository.list_artifacts()
            if not listed:
                raise RegistryError(f"registry {self.uri}: the files of version {entry.number} are gone")
            for artifact in listed:
                if artifact.path != files.PARTS:
                    repository.download_artifacts(artifact.path, dst_path=str(partial))
        return folder

    def content(self, number: str, name: str) -> bytes:
        """The content of one file of a version; RegistryError where it is not there."""
        with self._translated_errors(), tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
            return Path(self._files(number).download_artifacts(name, dst_path=scratch)).read_bytes()

    def _files(self, number: str) -> Any:
        """The repository of a version's folder."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

        where = self._client.get_model_version_download_uri(self.model_name, number)
        place = f"{where.rstrip('/')}/artifacts/{ARTIFACT}"
        return get_artifact_repository(place, tracking_uri=self.uri, registry_uri=self.uri)

    def _model(self) -> RegisteredModel | None:
        with self._translated_errors():
            found = self._client.search_registered_models(f"name = '{self.model_name}'", max_results=1)
        return next(iter(found), None)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise RegistryError(f"registry {self.uri}: {first_line(error)}") from error
