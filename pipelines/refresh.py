"""Refresh a version: advance its states over new days with the same weights, and register it as challenger."""

import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np
from numpy.typing import NDArray

from pipelines.calendar import calendar_digest, known_events, with_calendars, with_plan
from pipelines.production import NOTHING_TO_DO, ProductionAccess, production
from pipelines.quality import read_checked
from pricing.config import Config, read_config_file
from pricing.config_models import ServingConfig
from pricing.data.anchors import Anchors
from pricing.data.calendar import holidays_for
from pricing.data.load import LoadedSales
from pricing.data.panel import STEP_DAYS, Panel
from pricing.decision.cadence import carry_jumps, stock_jumps
from pricing.decision.last_price import anchor_moves, last_prices
from pricing.decision.product_facts import ProductFacts, told_comp_price
from pricing.demand.model import DemandModel
from pricing.demand.state import advance, digest, encode_panel, expand, overlay, span
from pricing.errors import HistoryError, RegistryError
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import rejected
from pricing.registry.version import LoadedVersion, Origin, pack
from pricing.runtime.cli import flag, job
from pricing.runtime.inputs import describe_data, log_data
from pricing.runtime.mlflow_runs import name_run, set_run_description, tracked_run

Array = NDArray[Any]
_FINGERPRINT, _REBUILT, _ANCHORS, _CALENDAR = "data_fingerprint", "rebuilt", "anchors", "calendar"
# Facts that need a long history: older values are preferred over those from a few recent weeks.
_OF_A_HISTORY = ("delivery_gaps", "seen_low", "seen_high")
_COMPETITOR = ("comp_price", "comp_price_date")  # known where newer rows tell them, be it that there is none
SAMPLE = 200


@dataclass(frozen=True)
class RefreshResult:
    """Result of a refresh.

    Attributes:
        number: The version with the new states.
        found: True when an earlier refresh of the same version on the same sales had registered it.
    """

    number: str
    found: bool


@job("refresh", sales="needed", unattended=True)
@click.option("--version", metavar="N", help="the version to refresh; absent: the champion")
@flag("--force", help="refresh a version that was rolled back from; promoting it needs force, too")
@flag("--rebuild", help="encode the sales, which must be the whole history, from scratch")
def main(
    *, sales: str, quarantine: Path | None, config: str | None, version: str | None, force: bool, rebuild: bool
) -> int:
    """Carries a version's states forward over new days, with the same weights."""
    file = read_config_file(config)
    with tracked_run("refresh", config=file.config) as run, production(file.config) as access:
        base = access.registry.find(version or CHAMPION)
        rejection = rejected(access.registry, access.audit, base)
        if rejection is not None and not force:
            raise RegistryError(
                f"version {base.number} is rejected ({rejection.words()}), and so would its refresh be; name another, "
                "or say --force true"
            )
        old = with_calendars(access.fetch(base.number, file=file), file.config.data)
        anchors = access.anchors_for(old)
        loaded = read_checked(
            sales,
            old.config.data,
            quarantine=quarantine,
            past=old.learner.encoded.tail,  # newer rows alone do not show which prices were discounts
            anchors=anchors,
            events=known_events(old),
        )
        _same_shop(loaded.panel, old, number=base.number)
        carried = refreshed(
            *(access, old, loaded),
            anchors=anchors,
            parent=base.number,
            sales=sales,
            config=file.config,
            rebuild=rebuild,
        )
        last = loaded.panel.dates[-1]
        if carried is None:
            print(f"{NOTHING_TO_DO}: version {base.number} has read these sales already, up to {last}")
            return 0
        number, waiting = carried.number, _waiting(access, base)
        if waiting is None:
            access.registry.set_alias(CHALLENGER, number)
        said = f"the weights of version {base.number} with states up to {last}"
        name_run(f"refresh v{number}")
        set_run_description(f"Version {number}: {said}.")
        did = "nothing new to register: it is" if carried.found else "registered"
        bears = f"as {CHALLENGER}" if waiting is None else "without an alias"
        print(f"{did} {access.registry.model_name} version {number} {bears}: {said} (run {run.info.run_id})")
        if waiting is None:
            print("promote it, and prices rest on the new states")
        else:
            print(f"version {waiting} waits as {CHALLENGER} and stays it; version={number} promotes the new states")
    return 0


def _same_shop(panel: Panel, version: LoadedVersion, *, number: str) -> None:
    """Refuses sales of which the version knows no product: their ids have changed, or they are of another shop.

    Raises:
        HistoryError: It knows none.
    """
    known = version.demand.product_ids
    if not np.isin(panel.product_ids, known).any():
        raise HistoryError(
            f"version {number} knows none of the {len(panel.product_ids):,} products in these sales: expected ids such "
            f"as {str(known[0])!r}, found such as {str(panel.product_ids[0])!r} (ids_changed). Deliver the former ids, "
            "or train a version on a history with the new ones"
        )


def _waiting(access: ProductionAccess, base: RegisteredVersion) -> str | None:
    """Returns the challenger that awaits a decision; None when there is none.

    A refresh must not replace it. A challenger with the weights being refreshed, or the champion's, only has older
    states; one that the gates refused, or that has been champion, is decided.
    """
    challenger, champion = access.registry.at(CHALLENGER), access.registry.at(CHAMPION)
    if challenger is None or challenger.weights in {base.weights, champion.weights if champion else ""}:
        return None
    record = access.audit.entries(access.registry.identity())
    decided = {entry.to_version for entry in record if entry.outcome in ("done", "refused")}
    return None if challenger.number in decided else challenger.number


def refreshed(
    access: ProductionAccess,
    version: LoadedVersion,
    loaded: LoadedSales,
    *,
    anchors: Anchors,
    parent: str,
    sales: str,
    config: Config,
    rebuild: bool = False,
) -> RefreshResult | None:
    """Registers a version with the given one's weights and states as of the panel's last date.

    Configuration is copied from the given version (calendars may differ from those of its training). Anchors are those
    in force, extended by products launched since. If an earlier refresh of the same version read the same panel, its
    version is returned. Must be called inside a run.

    Returns:
        The version with the new states, or None when the given version has read exactly this panel already.

    Raises:
        HistoryError: The panel leaves a gap after the state or changes rows before the checkpoint.
        RegistryError: The registry refuses.
    """
    started, panel = time.perf_counter(), loaded.panel
    anchors = anchors.extended(panel)
    known = version.whole_facts()
    planned = with_plan(known, version.config.data)
    tags = {
        _FINGERPRINT: log_data(panel, sales=sales),
        _REBUILT: str(rebuild).lower(),
        _ANCHORS: anchors.digest(),
        _CALENDAR: calendar_digest(panel, planned),
    }
    earlier = _registered(access, version, panel, parent=parent, tags=tags)
    if earlier is not None:
        mlflow.set_tag("version", earlier)
        return RefreshResult(earlier, found=True)
    demand = version.learner.refresh(panel, rebuild=rebuild)
    unchanged = _same(demand.to_arrays(), version.learner.to_arrays()) and _same(planned.to_arrays(), known.to_arrays())
    if unchanged and not version.anchors.differing(anchors):
        mlflow.set_tag("verdict", NOTHING_TO_DO)
        return None
    checked = parity(demand, panel)
    kept, whole = version.learner.encoded.tail, covers(panel, demand)
    facts = carry_facts(planned, demand.encoded.tail, panel, kept=kept, whole=whole).anchored(anchors)
    last_price = carry_last_price(
        planned,
        facts,
        history=panel if whole else demand.encoded.tail,
        tail=demand.encoded.tail,
        kept=kept,
        anchors=anchors,
        serving=config.serving,
    )
    facts = replace(facts, last_price=last_price)
    demand = _with_coming_holidays(demand, facts, country=version.config.data.country)
    mlflow.log_metrics({"parity": checked.difference, "refresh_seconds": time.perf_counter() - started})
    against = "from scratch" if checked.from_scratch else "from the checkpoint"
    print(f"{len(demand.product_ids)} products up to {panel.dates[-1]}; parity {checked.difference:.1e}, {against}")
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        packed = pack(
            Path(scratch) / "version",
            demand=demand,
            facts=facts,
            config=version.config,
            backtest=version.backtest,
            origin=Origin(
                kind="refresh",
                data=describe_data(panel, sales=sales, fingerprint=tags[_FINGERPRINT]),
                parent=parent,
                checks={"parity": checked.difference, "parity_from_scratch": checked.from_scratch},
            ),
            anchors=anchors,
            holds_only=version.holds_only,
        )
        words = f"The weights of version {parent} with states up to {panel.dates[-1]}."
        number = access.registry.log_version(packed.folder, tags=tags, description=words)
    mlflow.set_tag("version", number)
    return RefreshResult(number, found=False)


def _registered(
    access: ProductionAccess, version: LoadedVersion, panel: Panel, *, parent: str, tags: Mapping[str, str]
) -> str | None:
    """Returns the newest version registered by an earlier refresh of the same version on the same sales, or None."""
    about = {"kind": "refresh", "parent": parent, "weights": version.weights_hash, **tags}
    wanted = {**about, "state_date": str(panel.dates[-1])}
    found = [entry.number for entry in access.registry.versions() if wanted.items() <= entry.tags.items()]
    return found[-1] if found else None


def _with_coming_holidays(demand: DemandModel, facts: ProductFacts, *, country: str) -> DemandModel:
    """Returns the model with holiday flags from the new state date on; otherwise they end a year after training."""
    step = np.timedelta64(STEP_DAYS[demand.period], "D")
    dates = facts.state_date + np.arange(1, len(demand.holidays)) * step
    flags = holidays_for(dates, recurring=facts.recurring, country=country, period=demand.period)
    return demand.with_holidays(flags.astype(np.float32))


def carry_facts(old: ProductFacts, tail: Panel, panel: Panel, *, kept: Panel, whole: bool) -> ProductFacts:
    """Returns the product facts as of the panel's last date.

    Args:
        old: Facts as of the refreshed version's date.
        tail: Rows since the checkpoint, new ones included, of every product.
        panel: The sales that the version is refreshed with.
        kept: Rows since the checkpoint, of the version before the refresh.
        whole: True when the panel is the whole history; facts of its products then come from it alone. Otherwise older
            facts fill in what recent rows do not show, or show too briefly. Delivery cadence is estimated from older
            and new stock jumps together, which equals an estimate from the whole history.
    """
    new = ProductFacts.from_panel(panel if whole else tail)
    ids = np.union1d(old.product_ids, new.product_ids)
    at_old, in_old = _places(old.product_ids, ids)
    at_new, in_new = _places(new.product_ids, ids)
    told, _ = told_comp_price(panel if whole else tail)
    # A rate of 0 in facts without any tax says nothing: once others have rates it is unknown.
    first_taxes = (new.tax_rate > 0).any() and not (old.tax_rate > 0).any()
    columns: dict[str, Any] = {}
    for name, values in new.to_arrays().items():
        if name == "stock_jumps":
            continue
        before, after, seen = getattr(old, name)[at_old], values[at_new], np.isin(ids, panel.product_ids)
        if whole or (name == "tax_rate" and first_taxes):
            known = in_new
        elif name in _COMPETITOR:
            known = in_new & told[at_new]
        elif name in _OF_A_HISTORY:
            known = in_new & ~(in_old & _known(before, seen=seen))
        else:
            known = in_new & _known(after, seen=seen)
        columns[name] = np.where((in_old & ~known).reshape(-1, *(1,) * (after.ndim - 1)), before, after)
    columns["product_ids"] = ids
    columns["stock_jumps"] = np.zeros((len(ids), 0), np.uint8)
    recurring = new.recurring if whole else old.recurring
    carried = replace(new, recurring=recurring, **columns)
    carried = carried.planned(old.promotions, deliveries=old.planned_deliveries)
    rows = expand(panel, ids)
    if not whole:
        rows = overlay(expand(kept, ids), rows, whole=np.zeros(len(ids), bool))
    periods = int((new.state_date - old.state_date) // np.timedelta64(STEP_DAYS[new.period], "D"))
    since = carry_jumps(old.jumps()[at_old], rows, periods=periods, since=kept.dates[0])
    return carried.with_jumps(np.where((in_old & ~(in_new & whole))[:, None], since, stock_jumps(rows)))


def carry_last_price(
    old: ProductFacts,
    new: ProductFacts,
    *,
    history: Panel,
    tail: Panel,
    kept: Panel,
    anchors: Anchors,
    serving: ServingConfig,
) -> Array:
    """Returns the last prices charged as of the new facts' date, (product,): those known before, moved by newer rows.

    So no fault in the sales moves one at once, in the newest night's or in all of them. A product without one has what
    the history says; NaN until its rows agree for long enough.

    Args:
        old: Facts before the refresh.
        new: Facts after it.
        history: The whole history where it is at hand, else `tail`.
        tail: As in `carry_facts`, and likewise `kept`.
        kept: See there.
        anchors: Those in force.
        serving: The largest jump, and when a price beyond it counts.
    """
    settings: dict[str, Any] = {"largest_jump": serving.largest_jump, "confirmed": serving.jump_confirmed}
    ids, rows, past = new.product_ids, expand(tail, new.product_ids), expand(kept, new.product_ids)
    every = expand(history, ids)
    read = last_prices(every.price, every.present, moves=anchor_moves(anchors, ids, every.dates), **settings)
    at, known = _places(old.product_ids, ids)
    before = np.where(known, old.last_price[at], np.nan)
    counted, since = past.dates < old.state_date, rows.dates >= old.state_date  # its own rows may have been corrected
    carried = last_prices(
        np.hstack([past.price[:, counted], rows.price[:, since]]),
        np.hstack([past.present[:, counted], rows.present[:, since]]),
        moves=anchor_moves(anchors, ids, np.concatenate([past.dates[counted], rows.dates[since]])),
        before=before,
        seen=int(counted.sum()),
        **settings,
    )
    return np.where(np.isfinite(before), carried, read)


def _places(some: Array, wanted: Array) -> tuple[Array, Array]:
    places = np.minimum(np.searchsorted(some, wanted), len(some) - 1)
    return places, some[places] == wanted


def _known(values: Array, *, seen: Array) -> Array:
    """Returns where a recent fact is known; flags are known where the product was seen."""
    kind = values.dtype.kind
    if kind == "f":
        return np.asarray(~np.isnan(values).reshape(len(values), -1).any(axis=1))
    if kind == "M":
        return np.asarray(~np.isnat(values))
    return np.asarray(values != "") if kind == "U" else seen


def _same(some: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    return some.keys() == others.keys() and all(
        np.array_equal(array, others[name], equal_nan=array.dtype.kind in "fM") for name, array in some.items()
    )


@dataclass(frozen=True)
class Parity:
    """Result of comparing refreshed states with states encoded anew, on a sample of products.

    Attributes:
        difference: Largest difference of any hidden or cell state and of any step's log factor of the other
            forecasters; relative to values above 1.
        from_scratch: True when the whole history was encoded; False when only the rows since the checkpoint were,
            because the panel does not reach back further.
        products: Number of products compared.
    """

    difference: float
    from_scratch: bool
    products: int


def covers(panel: Panel, model: DemandModel) -> bool:
    """Returns True when a panel covers the whole history that the model has read."""
    encoded = model.encoded
    before = span(panel, 0, int(np.searchsorted(panel.dates, encoded.tail.dates[0])))
    return bool(digest(before)[:, 0].sum() >= encoded.digest[:, 0].sum())


def parity(model: DemandModel, panel: Panel, *, sample: int = SAMPLE) -> Parity:
    """Encodes up to `sample` products, evenly spaced by row, anew and compares their states.

    Args:
        model: The model after the refresh.
        panel: The sales it was refreshed with; the whole history for a comparison from scratch.
        sample: Most products to compare (encoding all of a long history takes minutes).
    """
    count = len(model.product_ids)
    rows = np.unique(np.linspace(0, count - 1, num=min(sample, count)).astype(np.int64))
    norms = model.norms.take(rows)
    encoded, ids = model.encoded, model.product_ids[rows]
    whole = covers(panel, model)
    if whole:
        anew = encode_panel(model.weights, expand(panel, ids), norms=norms, tail=len(encoded.tail.dates)).state
    else:
        anew = advance(model.weights, encoded.tail.select(rows), norms=norms, state=encoded.checkpoint.take(rows))
    pairs = ((encoded.state.hidden[rows], anew.hidden), (encoded.state.cell[rows], anew.cell))
    levels = model.combination.factor[rows], model.factor_of(rows, anew)
    worst = max(float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(other)))) for one, other in (*pairs, levels))
    return Parity(difference=worst, from_scratch=whole, products=len(rows))


if __name__ == "__main__":
    sys.exit(main())
