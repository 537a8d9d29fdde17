"""What the pages are made of, as it is now: the price table, the published version, what persons said, the panel."""

import datetime as dt
import json
import logging
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from console.worklist import Said, Worklist, newest_table, read_table
from pricing.arrays import Ints
from pricing.config import ConfigFile
from pricing.config_models import DecisionConfig
from pricing.data.panel import HEADER, Panel, is_panel, load_panel
from pricing.decision.experiment_results import Gain, profit_gain, spans
from pricing.decision.experiments import Experiment
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Review, Switch, Switches, Unfreeze
from pricing.errors import ConfigError, PricingError, RegistryError
from pricing.objects import open_store
from pricing.paths import log_url
from pricing.registry.control import ControlRecord
from pricing.registry.published import PublishedVersion, fetch_version, parse_pointer, pointer_key, published_url
from pricing.registry.version import LoadedVersion, load
from pricing.runtime.shared_state import database_url
from pricing.runtime.shop_time import shop_now
from pricing.served_config import served_config

LOOK_SECONDS = 2.0  # between two looks at what is published, as serving does

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Served:
    """The published version, ready to price."""

    pointer: PublishedVersion
    version: LoadedVersion
    pricer: Pricer


class Shop:
    """Everything that pages read and write. One thread looks for news; any thread may read."""

    def __init__(self, file: ConfigFile, environment: Mapping[str, str], *, home: Path) -> None:
        """Opens the stores and asks them nothing yet; raises PricingError where an address is none."""
        self.file, self.home = file, home
        self.model, self.config = file.config.registry.model_name, file.config
        self.log = log_url(environment)
        self._store = open_store(published_url(environment))
        self.record = ControlRecord(database_url(environment), model=self.model, store=self._store)
        self.table: Worklist | None = None
        self.served: Served | None = None
        self.panel: Panel | None = None
        self.experiments: dict[str, Experiment] = {}
        self.monitoring: dict[str, Any] = {}
        self.gains: dict[str, Gain] = {}  # experiment → what it measured so far
        self.trouble: dict[str, str] = {}  # what could not be read, and why
        self._said = Said()
        self._states: tuple[tuple[str, int, int, float | None], Ints] = ("", -1, 0, None), np.zeros(0, np.int64)
        self._lock, self._seen = threading.Lock(), dict[str, object]()
        self._stop = threading.Event()
        self.now = partial(shop_now, self.config.zone)

    @property
    def decision(self) -> DecisionConfig:
        """The settings that decide, of the version as it is served."""
        return self.served.pricer.policy.config if self.served else self.config.decision

    @property
    def beyond(self) -> float | None:
        """The move beyond which a person must approve."""
        return self.decision.approve_beyond

    @property
    def period(self) -> str:
        """The word for a period."""
        return self.served.version.facts.period if self.served else "day"

    def follow(self) -> threading.Thread:
        """Looks for news from now on, in a thread."""

        def run() -> None:
            while not self._stop.wait(LOOK_SECONDS):
                self.look()

        thread = threading.Thread(target=run, name="console", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Ends the looks."""
        self._stop.set()

    def look(self) -> None:
        """Reads what is new; what cannot be read stays as it was, and `trouble` says why."""
        for name, read in (
            *(("prices", self._read_table), ("version", self._read_version), ("control", self.hear)),
            *(("panel", self._read_panel), ("monitoring", self._read_monitoring)),
        ):
            try:
                read()
                self.trouble.pop(name, None)
            except (PricingError, OSError, ValueError, LookupError) as error:
                if self.trouble.get(name) != str(error):
                    _log.error("%s", error)
                self.trouble[name] = str(error)
                self._seen.pop(name, None)  # it is read again

    def hear(self) -> Said:
        """Reads what persons said since the last time."""
        with self._lock:
            for entry in self.record.entries(after=self._said.sequence):
                self._said.sequence = entry.sequence
                try:
                    body = entry.read()
                except ConfigError as error:
                    _log.warning("entry %d of the control record is passed over: %s", entry.sequence, error)
                    continue
                if isinstance(body, Experiment):
                    self.experiments[body.name] = body
                else:
                    self._said.hear(body)
            return self._said

    def say(self, *words: Switch | Unfreeze | Review, seen: int) -> None:
        """Writes what a person said, and has it in force.

        Raises:
            ConflictError: Somebody else said something on one of these products after entry `seen`.
            RegistryError: It could not be written, or is written and not published.
        """
        if not words:
            return
        self.record.append(*words, seen=seen)
        self.hear()
        try:
            self.record.mirror(now=dt.datetime.now(dt.UTC))
        except PricingError as error:
            said = (
                f"it is written, and not published, so serving does not know it yet; pricing publish mends it: {error}"
            )
            raise RegistryError(said) from error

    def switches(self) -> Switches:
        """What persons have frozen, given and approved."""
        with self._lock:
            return self._said.in_force(dt.datetime.now(dt.UTC))

    def states(self, table: Worklist) -> tuple[Ints, int]:
        """(product,) where each proposal stands, and the sequence of the last entry that this rests on."""
        self.hear()
        with self._lock:
            said, switches = self._said, self._said.in_force(dt.datetime.now(dt.UTC))
            key = (table.key, said.sequence, len(switches), self.beyond)
            if self._states[0] != key:
                self._states = key, table.states(said.words, switches, beyond=self.beyond)
            return self._states[1], key[1]

    def day(self, table: Worklist) -> dt.date:
        """The day that answers as the table was answered: today, or the day priced where that is past."""
        return min(self.now().date(), table.day)

    def request(self, table: Worklist, row: int, *, strategy: str | None = None) -> PriceRequest:
        """The request that a row of the table answered."""
        stock = float(table.number["current_stock"][row])
        given = {"strategy": strategy} if strategy else {}
        return PriceRequest.model_validate(
            {
                "product_id": str(table.text["product_id"][row]),
                "current_stock": None if np.isnan(stock) else stock,
                "date": str(table.text["date"][row])[:10],
                "current_price": None if np.isnan(now := float(table.number["current_price"][row])) else now,
                **given,
            }
        )

    def _changed(self, name: str, what: object) -> bool:
        """Tells that something is not what was read last; from then on it is."""
        changed = self._seen.get(name) != what
        self._seen[name] = what
        return changed

    def _read_table(self) -> None:
        found = newest_table(self.home)
        if found is not None and self._changed("prices", found[1]):
            self.table = read_table(found[0], key=found[1])

    def _read_version(self) -> None:
        content = self._store.get(pointer_key(self.model))
        if content is None:
            return
        champion = parse_pointer(content, model=self.model).champion
        if self.served is not None and self.served.pointer == champion:
            return
        folder = self.home / "console" / "versions" / champion.folder
        fetch_version(self._store, champion, model=self.model, folder=folder)
        version = load(folder)
        config = served_config(version.config, self.file, name=champion.number).config
        jump = self.config.serving.largest_jump
        pricer = version.pricer(version=champion.number, config=config, largest_jump=jump)
        self.served = Served(champion, version, pricer)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)

    def _read_panel(self) -> None:
        place = self.home / "panel"
        if is_panel(place) and self._changed("panel", ((place / HEADER).stat().st_mtime_ns, len(self.experiments))):
            self.panel = load_panel(place)
            self.gains = {name: _measured(self.panel, one) for name, one in self.experiments.items()}

    def _read_monitoring(self) -> None:
        place = self.home / "monitoring" / "latest" / "outcome.json"
        if place.is_file() and self._changed("monitoring", place.stat().st_mtime_ns):
            self.monitoring = json.loads(place.read_text(encoding="utf-8"))


def _measured(panel: Panel, experiment: Experiment) -> Gain:
    """Profit of the products that an experiment let move against those that it kept, or against those of its rule."""
    arms: dict[str, list[str]] = {}
    for product, arm in experiment.products.items():
        arms.setdefault(arm, []).append(product)
    base = "keep" if "keep" in arms else "rule"
    others = arms.pop(base, [])
    outside: Sequence[str] = [one for one in panel.product_ids.tolist() if one not in experiment.products]
    treated = [one for products in arms.values() for one in products] or (outside if base == "keep" else [])
    before, after = spans(panel, start=experiment.start, end=experiment.end)
    return profit_gain(panel, treated, others, before=before, after=after, rng=np.random.default_rng(7))
