"""Settings of people over the model, as one document: prices frozen, given or approved, and experiments.

It is pure data here: `pricing.registry.control` keeps it.
"""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from pricing.decision.experiments import NO_EXPERIMENTS, Experiment, Experiments
from pricing.decision.request import Money
from pricing.errors import ConfigError, SourceError

FORMAT = 1  # of the document
_EXPERIMENT = TypeAdapter(Experiment)
_APPROVED = TypeAdapter(dict[str, Money])
Scope = Literal["all", "category", "product"]


class Signed(BaseModel):
    """A word of a person: who, when and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    by: Annotated[str, Field(min_length=1, max_length=300)]
    at: AwareDatetime


class Review(Signed):
    """A word on prices that were proposed: the last one approved counts where `decision.approve_beyond` asks for it."""

    verdict: Literal["approve", "reject"]
    prices: Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], Money], Field(min_length=1)]


class Scoped(Signed):
    """A word on everything, a category or a product."""

    scope: Scope
    name: Annotated[str, Field(max_length=200)] = ""  # the category or product; empty for `all`

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.scope == "all") != (not self.name):
            raise ValueError(f"scope {self.scope} and name {self.name!r} contradict each other")
        return self

    @property
    def whose(self) -> str:
        """The scope in words."""
        return "everything" if self.scope == "all" else f"{self.scope} {self.name}"


class Unfreeze(Scoped):
    """The end of a freeze or an override."""


class Switch(Scoped):
    """One switch."""

    action: Literal["freeze", "override"]  # `freeze` keeps the price charged now, inside the hard guardrails
    price: Money | None = None  # of an override
    until: AwareDatetime | None = None  # None: until a person ends it, which no override may wait for
    below_cost: bool = False  # the price of an override counts below cost, too

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.action == "override") != (self.price is not None):
            raise ValueError(f"{self.action}: a price belongs to an override, and to nothing else")
        if self.action == "override" and self.until is None:
            raise ValueError("override: it needs an end (until): a price that is given for good belongs to the shop")
        if self.below_cost and self.action != "override":
            raise ValueError("below_cost belongs to an override")
        return self

    def ended(self, moment: dt.datetime) -> bool:
        """True once it has ended by a moment."""
        return self.until is not None and self.until <= moment


class Switches:
    """The switches in force, of which the narrowest counts: of the product, else its category, else everything.

    Behind every switch counts `approved`: product → the price that a person approved last.
    """

    def __init__(self, switches: Iterable[Switch] = (), approved: Mapping[str, float] = MappingProxyType({})) -> None:
        """Keeps the last of several with the same scope and name."""
        self.approved = approved
        self.by_name = {(switch.scope, switch.name): switch for switch in switches}
        self.first_end = min((switch.until for switch in self if switch.until is not None), default=None)

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[Switch]:
        return iter(self.by_name.values())

    def at(self, moment: dt.datetime) -> "Switches":
        """Those that have not ended by a moment."""
        if self.first_end is None or moment < self.first_end:
            return self
        return Switches((switch for switch in self if not switch.ended(moment)), self.approved)

    def of(self, product_id: str, *, category: str) -> Switch | None:
        """The switch that counts for a product; None where its price is free."""
        scopes = ("product", product_id), ("category", category), ("all", "")
        return next((self.by_name[scope] for scope in scopes if scope in self.by_name), None)  # decision 98


NO_SWITCHES = Switches()


@dataclass(frozen=True)
class Control:
    """The switches and experiments in force."""

    switches: Switches = NO_SWITCHES
    experiments: Experiments = NO_EXPERIMENTS
    entries: int = 0  # of the record that it was made from
    unread: tuple[str, ...] = ()  # what could not be understood and is passed over, a line each
    sequence: int = 0  # of the document: it rises with every change, and readers refuse a lower one
    unrecorded: tuple[Switch, ...] = ()  # among the switches those that the record does not know yet

    def to_json(self) -> bytes:
        """The document."""
        document = {
            "format": FORMAT,
            "sequence": self.sequence,
            "entries": self.entries,
            "switches": _documents(self.switches),
            "experiments": [_EXPERIMENT.dump_python(each, mode="json") for each in self.experiments.every],
        }
        if self.switches.approved:
            document["approved"] = dict(self.switches.approved)
        if self.unrecorded:
            document["unrecorded"] = _documents(self.unrecorded)
        return (json.dumps(document, indent=1) + "\n").encode()


def _documents(switches: Iterable[Switch]) -> list[dict[str, Any]]:
    return [switch.model_dump(mode="json", exclude_defaults=True) for switch in switches]


NO_CONTROL = Control()


def parse_control(content: bytes) -> Control:
    """Reads the document, all but entries that cannot be understood; raises SourceError where it is none."""
    try:
        known: Any = json.loads(content)
        if known["format"] != FORMAT:
            raise ValueError(f"it is of format {known['format']}, expected {FORMAT}")
        control = control_of(
            known["switches"],
            known["experiments"],
            known.get("approved", {}),
            entries=int(known.get("entries", 0)),
        )
        unrecorded = tuple(map(Switch.model_validate, known.get("unrecorded", ())))
        return replace(control, sequence=int(known["sequence"]), unrecorded=unrecorded)
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError) as error:
        raise SourceError(f"control.json: cannot be understood ({error}); pricing publish writes it") from error


def control_of(switches: list[Any], experiments: list[Any], approved: Any, *, entries: int) -> Control:
    """Makes it of JSON values; each that cannot be understood is passed over and named, so that it disarms no other."""
    known: list[Switch] = []
    tried = NO_EXPERIMENTS
    prices: dict[str, float] = {}
    unread: list[str] = []

    def passed_over(what: str, error: Exception) -> None:
        unread.append(f"{what} passed over: {' '.join(str(error).split())[:300]}")

    try:
        prices = _APPROVED.validate_python(approved)
    except ValidationError as error:
        passed_over("the approved prices are", error)
    for switch in switches:
        try:
            known.append(Switch.model_validate(switch))
        except ValidationError as error:
            passed_over("a switch is", error)
    for experiment in experiments:
        try:
            tried = tried.plus(_EXPERIMENT.validate_python(experiment))
        except (ValidationError, ConfigError, OverflowError) as error:  # an end beyond all days
            passed_over("an experiment is", error)
    return Control(Switches(known, prices), tried, entries, tuple(unread))
