"""A retailer whose versions are registered, promoted and refreshed by the jobs themselves, without any training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from pipelines import promote, refresh
from pricing.data.panel import Panel, save_panel
from pricing.demand.state import span
from pricing.paths import database_url
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import Audit, AuditEntry
from pricing.registry.version import LoadedVersion, load
from tests.kit.promotions import packed


@dataclass
class Shop:
    """One retailer's registry, record and sales, in a folder of their own."""

    folder: Path
    registry: Registry
    whole: Panel

    def panel(self, days: int = 150) -> Panel:
        return self.whole.through(self.whole.dates[days - 1])

    def place(self, name: str) -> Path:
        """A path in the folder that nothing has taken yet."""
        return self.folder / f"{name}-{len(list(self.folder.iterdir()))}"

    def add(
        self, *, days: int = 150, alias: str | None = "challenger", panel: Panel | None = None, **changes: Any
    ) -> str:
        """Registers a version, as train would, and returns its number."""
        folder = self.place("packed") / "version"
        packed(folder, panel=panel or self.panel(days), **changes)
        with mlflow.start_run():
            number = self.registry.log_version(folder)
        if alias:
            self.registry.set_alias(alias, number)
        return number

    def promote(self) -> None:
        """Promotes the challenger."""
        assert promote.main([]) == 0

    def crown(self, **given: Any) -> str:
        """Adds a version, promotes it and returns its number."""
        number = self.add(**given)
        self.promote()
        return number

    def sales(self, days: int, *, first: int = 0, panel: Panel | None = None) -> str:
        panel = panel or self.panel(days)
        where = self.place("sales")
        save_panel(span(panel, first, len(panel.dates)), where)
        return str(where)

    def refresh(self, days: int, **given: Any) -> None:
        """Carries the champion's states over the sales of so many days."""
        assert refresh.main(["--sales", self.sales(days, **given)]) == 0

    @property
    def aliases(self) -> dict[str, str]:
        return self.registry.aliases()

    @property
    def champion(self) -> str:
        """The number of the champion."""
        return self.aliases["champion"]

    def entries(self) -> list[AuditEntry]:
        return Audit(database_url()).entries(self.registry.identity())

    @property
    def last(self) -> AuditEntry:
        """The newest line of the record."""
        return self.entries()[-1]

    @property
    def missed(self) -> list[str]:
        """The gates that refused, or were overruled, last."""
        return [gate["name"] for gate in self.last.gates if not gate["passed"]]

    def files(self) -> set[Path]:
        """The folders of all registered versions."""
        return set(self.folder.glob("mlruns/*/models/*/artifacts/artifacts/version"))

    def fetch(self, reference: str) -> LoadedVersion:
        return load(self.registry.download(reference, self.place("got")))
