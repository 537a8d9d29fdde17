"""Record the inputs of an MLflow run: configuration, data, code version and environment."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import mlflow
import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from pricing import __version__
from pricing.config import Config
from pricing.data.panel import Panel
from pricing.fileio import redact_url
from pricing.served_config import leaves

_PARAMETER_CHARACTERS = 6000  # of a parameter that MLflow stores
_DIGEST_CHARACTERS = 36


class _SalesDataset(MetaDataset):
    """The sales as MLflow shows them among a run's inputs; the run's tags tell their size."""

    @property
    def profile(self) -> dict[str, object]:
        """Returns nothing."""
        return {}


def log_config(config: Config) -> None:
    """Records the whole configuration in the active run: each key a parameter, and all of it as config.yaml."""
    values = config.model_dump(mode="json")
    mlflow.log_params({name: str(value)[:_PARAMETER_CHARACTERS] for name, value in leaves(values).items()})
    mlflow.log_dict(values, "config.yaml")


def log_data(panel: Panel, *, sales: str) -> str:
    """Records a panel as the active run's dataset input, without passwords of its source; returns its fingerprint."""
    where = redact_url(sales)
    digest = fingerprint(panel)
    source = CodeDatasetSource({"sales": where})
    mlflow.log_input(_SalesDataset(source, name=Path(where).name or where, digest=digest), context="training")
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


def code_version(root: Path) -> str:
    """Identifies the running code: its commit, with -dirty where files differ; without git, the package's version.

    Args:
        root: Folder of the packages. Where it is no checkout of this project, git would report the commit of whatever
            repository the environment lies in, so it is not asked.
    """
    if (root / "MLproject").is_file() and shutil.which("git"):
        words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return __version__


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
