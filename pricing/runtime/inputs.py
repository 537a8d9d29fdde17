"""Record the inputs of an MLflow run: configuration, data, code version and environment."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import mlflow
import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from pricing.config import Config
from pricing.data.panel import Panel
from pricing.fileio import redact_url

_PARAMETER_CHARACTERS = 6000
_DIGEST_CHARACTERS = 36


class _PanelDataset(MetaDataset):
    """The panel as MLflow shows it among a run's inputs: its source, its fingerprint and its size."""

    def __init__(self, panel: Panel, *, where: str, digest: str) -> None:
        self._sizes: dict[str, object] = {
            "products": len(panel.product_ids),
            "periods": len(panel.dates),
            "rows": int(panel.present.sum()),
            "period": panel.period,
            "first": str(panel.dates[0]),
            "last": str(panel.dates[-1]),
            "notes": list(panel.notes),
            **panel.lineage,
        }
        super().__init__(CodeDatasetSource({"sales": where}), name=Path(where).name or where, digest=digest)

    @property
    def profile(self) -> dict[str, object]:
        """Sizes, dates and notes of the panel."""
        return self._sizes

    def to_dict(self) -> dict[str, str]:
        """Adds the profile to what MLflow stores."""
        return {**super().to_dict(), "profile": json.dumps(self._sizes)}


def log_config(config: Config) -> None:
    """Records the whole configuration in the active run: each key a parameter, and all of it as config.yaml."""
    values = config.model_dump(mode="json")
    mlflow.log_params(dict(flatten(values)))
    mlflow.log_dict(values, "config.yaml")


def flatten(values: Mapping[str, object], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields each leaf of nested mappings as its dotted key and its value as text, cut to what MLflow stores."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, prefix=f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:_PARAMETER_CHARACTERS]


def log_data(panel: Panel, *, sales: str) -> str:
    """Records the panel as the active run's dataset input and returns its fingerprint.

    Args:
        panel: What the job computes on.
        sales: Where it came from; passwords in it are left out.
    """
    where = redact_url(sales)
    digest = fingerprint(panel)
    mlflow.log_input(_PanelDataset(panel, where=where, digest=digest), context="training")
    first, last = panel.dates[0], panel.dates[-1]
    mlflow.set_tags(
        {
            "sales": where,
            "data_fingerprint": digest,
            "data": f"{len(panel.product_ids)} products × {len(panel.dates)} {panel.period}s, {first} to {last}",
            **panel.lineage,
        }
    )
    return digest


def describe_data(panel: Panel, *, sales: str, fingerprint: str) -> dict[str, object]:
    """Describes the data of a model version, with its rows' lineage, as stored in it; passwords are left out."""
    return {
        "fingerprint": fingerprint,
        "source": redact_url(sales),
        "rows": int(panel.present.sum()),
        "first_date": str(panel.dates[0]),
        "last_date": str(panel.dates[-1]),
        **panel.lineage,
    }


def fingerprint(panel: Panel) -> str:
    """Hashes every array of a panel: equal data, equal fingerprint, whatever file it came from."""
    digest = hashlib.sha256(panel.period.encode())
    for field in fields(panel):
        value = getattr(panel, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def code_tags(root: Path) -> dict[str, str]:
    """Identifies the running code: commit, and whether files differ from it; without git, the package's version.

    Args:
        root: Folder of the packages. Where it is no checkout of this project, git would report the commit of whatever
            repository the environment lies in, so it is not asked.
    """
    commit = _git(root, "rev-parse", "HEAD") if (root / "MLproject").is_file() else None
    if commit is None:
        return {"code_version": importlib.metadata.version("pricing") if _installed("pricing") else "unknown"}
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    version = f"{commit[:12]}{' with local changes' if changed else ''}"
    return {"code_version": version, "mlflow.source.git.commit": commit}


def log_environment() -> None:
    """Records the machine and every installed package's version in the active run."""
    machine = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
    }
    packages = sorted(f"{item.name}=={item.version}" for item in importlib.metadata.distributions())
    mlflow.log_dict(machine, "environment/machine.json")
    mlflow.log_text("\n".join(packages) + "\n", "environment/packages.txt")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
