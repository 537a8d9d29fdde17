"""Keep what the pages show: the price table, the published version, the decisions of people, panel and monitoring."""

import datetime as dt
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.worklist import Worklist, read_table
from pricing.config import ConfigFile, served_config
from pricing.config_models import DecisionConfig
from pricing.data.panel import HEADER, Panel, is_panel, load_panel
from pricing.decision.decide import Policy
from pricing.decision.experiment_results import Gain, profit_gain, spans
from pricing.decision.experiments import Experiment
from pricing.decision.price_tests import next_monday, week_of_tests
from pricing.decision.pricer import Pricer
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Review, Switch, Unfreeze
from pricing.errors import SIMULATED, ConfigError, PricingError, RegistryError
from pricing.objects import open_store
from pricing.paths import database_url
from pricing.registry.control import ControlRecord, Heard
from pricing.registry.published_store import (
    PRICES_MADE,
    PublishedVersion,
    fetch_version,
    parse_pointer,
    pointer_key,
    prices_prefix,
    published_url,
)
from pricing.registry.version import LoadedVersion, load

LOOK_SECONDS = 2.0  # between two looks at what is published, as serving does
OVERRIDE_DAYS = 7

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
        self.file = file
        self.home = home
        self.config = file.config
        self.model = file.config.registry.model_name
        self.store = open_store(published_url(environment))
        self.record = ControlRecord(database_url(environment), model=self.model, store=self.store)
        self.table: Worklist | None = None
        self.served: Served | None = None
        self.panel: Panel | None = None
        self.monitoring: dict[str, Any] = {}
        self.gains: dict[str, Gain] = {}  # experiment → what it measured so far
        self.trouble: dict[str, str] = {}  # what could not be read, and why
        self._heard = Heard()
        self._standing: tuple[object, Worklist | None] = None, None  # what it was made of, and itself
        self._offer: tuple[object, Experiment | str] = None, ""  # what it was made of, and itself
        self._lock = threading.Lock()
        self._seen: dict[str, object] = {}  # what was read last, by the names of `look`
        self.now = self.config.now
        self._unserved = Policy(self.config.decision, largest_jump=self.config.serving.largest_jump)

    @property
    def decision(self) -> DecisionConfig:
        """The settings that decide, of the version as it is served."""
        return self.served.pricer.policy.config if self.served else self.config.decision

    @property
    def beyond(self) -> float | None:
        """The move beyond which a person must approve."""
        return self.decision.approve_beyond

    @property
    def soon(self) -> str:
        """The last day of a price that is given by hand, unless a person says otherwise."""
        return (self.now().date() + dt.timedelta(days=OVERRIDE_DAYS)).isoformat()

    @property
    def period(self) -> str:
        """The word for a period."""
        return self.served.version.facts.period if self.served else "day"

    @property
    def simulated(self) -> bool:
        """The version was trained on the built-in market: nobody made these sales."""
        return self.served is not None and self.served.version.meta["data"].get("source") == SIMULATED

    def follow(self) -> None:
        """Looks for news from now on, in a thread."""

        def run() -> None:
            while True:
                time.sleep(LOOK_SECONDS)
                self.look()

        threading.Thread(target=run, name="console", daemon=True).start()

    def look(self) -> None:
        """Reads what is new; what cannot be read stays as it was, and `trouble` says why."""
        parts: dict[str, Callable[[], object]] = {
            "prices": self._read_table,
            "version": self._read_version,
            "control": self.hear,
            "panel": self._read_panel,
            "monitoring": self._read_monitoring,
        }
        for name, read in parts.items():
            try:
                read()
                self.trouble.pop(name, None)
            except (PricingError, OSError, ValueError, LookupError) as error:
                if self.trouble.get(name) != str(error):
                    _log.error("%s", error)
                self.trouble[name] = str(error)
                self._seen.pop(name, None)  # it is read again

    def hear(self) -> Heard:
        """Reads the decisions of people since the last time."""
        with self._lock:
            passed_over = len(self._heard.unread)
            self._heard.hear(self.record.entries(after=self._heard.sequence))
            for line in self._heard.unread[passed_over:]:
                _log.warning("%s", line)
            return self._heard

    def write(self, *decisions: Switch | Unfreeze | Review, seen: int) -> None:
        """Writes decisions of a person, and has them in force.

        Raises:
            ConflictError: Somebody else decided on one of these products after entry `seen`.
            RegistryError: It could not be written, or is written and not published.
        """
        self.record.append(*decisions, seen=seen)
        self._publish()

    def start_tests(self, planned: Experiment, *, who: str) -> None:
        """Begins price tests; raises as `write`, and ConfigError where another experiment has one of their products."""
        now = dt.datetime.now(dt.UTC)
        self.record.append_experiment(planned.name, lambda known: known.rolled(planned, former=None), who=who, at=now)
        self._publish()

    def stop_tests(self, name: str, *, who: str) -> None:
        """Stops price tests from today on; raises as `write`, and ConfigError where there are none of the name."""
        today = self.now().date()
        now = dt.datetime.now(dt.UTC)
        self.record.append_experiment(name, lambda known: known.ended(name, after=today), who=who, at=now)
        self._publish()

    def running_tests(self) -> Experiment | None:
        """The price tests that nobody stopped; None where there are none."""
        return self.hear().control().experiments.rolling

    def tests_on_offer(self) -> Experiment | str:
        """The price tests that can begin next Monday; the reason where there are none."""
        served = self.served
        if served is None:
            return "no version is served yet"
        known = self.hear().control().experiments
        key = (served.pointer, next_monday(self.now().date()), known)
        if self._offer[0] != key:
            offer: Experiment | str
            try:
                version = served.version
                offer = week_of_tests(served.pricer, version.demand, version.facts, known=known, day=key[1])
            except ConfigError as reason:
                offer = str(reason)
            self._offer = key, offer
        return self._offer[1]

    def _publish(self) -> None:
        """Has what was written in force; raises RegistryError where it is not published."""
        self.hear()
        try:
            self.record.mirror(now=dt.datetime.now(dt.UTC))
        except PricingError as error:
            text = "it is written, and not published, so serving does not know it yet; pricing publish mends it"
            raise RegistryError(f"{text}: {error}") from error

    def standing(self) -> Worklist | None:
        """The table with the decisions of people; None before there is one."""
        heard = self.hear()
        table = self.table  # one and the same, whatever comes in meanwhile
        if table is None:
            return None
        with self._lock:
            switches = heard.switches(at=dt.datetime.now(dt.UTC))
            served = self.served
            policy = served.pricer.policy if served else self._unserved
            key = (table.key, heard.sequence, len(switches), policy)
            if self._standing[0] != key:
                facts = served.version.facts if served else None
                self._standing = key, table.standing(heard, switches, policy=policy, facts=facts)
            return self._standing[1]

    def day(self, table: Worklist) -> dt.date:
        """The day that answers as the table was answered: today, or the day priced where that is past."""
        return min(self.now().date(), dt.date.fromisoformat(min(table.text["date"].tolist())[:10]))

    def request(self, table: Worklist, row: int, *, strategy: str | None = None) -> PriceRequest:
        """The request that a row of the table answered."""
        asked: dict[str, Any] = {
            "product_id": str(table.text["product_id"][row]),
            "date": str(table.text["date"][row])[:10],
        }
        for name in ("current_stock", "current_price"):
            value = float(table.number[name][row])
            asked[name] = None if np.isnan(value) else value
        if strategy:
            asked["strategy"] = strategy
        return PriceRequest.model_validate(asked)

    def _changed(self, name: str, what: object) -> bool:
        """Compares something with what was read last, and keeps it as that."""
        changed = self._seen.get(name) != what
        self._seen[name] = what
        return changed

    def _read_table(self) -> None:
        keys = self.store.keys(prices_prefix(self.model))
        if not keys or not self._changed("prices", keys[-1]):
            return
        newest = keys[-1]
        content = self.store.get(newest)
        if content is not None:
            made = dt.datetime.strptime(newest.rpartition("/")[2], PRICES_MADE).replace(tzinfo=dt.UTC)
            self.table = read_table(content, key=newest, made=made)

    def _read_version(self) -> None:
        content = self.store.get(pointer_key(self.model))
        if content is None:
            return
        champion = parse_pointer(content, model=self.model).champion
        if self.served is not None and self.served.pointer == champion:
            return
        folder = self.home / "console" / "versions" / champion.folder
        fetch_version(self.store, champion, model=self.model, folder=folder)
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
        if not is_panel(place):
            return
        experiments = self._heard.experiments
        if self._changed("panel", ((place / HEADER).stat().st_mtime_ns, len(experiments))):
            self.panel = load_panel(place)
            self.gains = {name: _measured(self.panel, experiment) for name, experiment in experiments.items()}

    def _read_monitoring(self) -> None:
        place = self.home / "monitoring" / "latest" / "outcome.json"
        if place.is_file() and self._changed("monitoring", place.stat().st_mtime_ns):
            self.monitoring = json.loads(place.read_text(encoding="utf-8"))


def _measured(panel: Panel, experiment: Experiment) -> Gain:
    """Profit of the products that an experiment let move against those that it kept, or against those of its rule."""
    base = "keep" if "keep" in experiment.named else "rule"
    others = experiment.in_arm(base)
    treated = [product for product, arm in experiment.products.items() if arm != base]
    if not treated and base == "keep":
        treated = [product for product in panel.product_ids.tolist() if product not in experiment.products]
    before, after = spans(panel, start=experiment.start, end=experiment.end)
    return profit_gain(panel, treated, others, before=before, after=after, rng=np.random.default_rng(7))
