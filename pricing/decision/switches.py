"""What a person says over the model: a price that is frozen, given, or approved. Which switch counts for a product.

They are pure data here: `pricing.registry.control` keeps them.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from pricing.decision.request import Money

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
        """Tells that it has ended by a moment."""
        return self.until is not None and self.until <= moment


class Switches:
    """The switches in force: at most one of each product, of each category, and of everything.

    The narrowest counts: that of the product, else of its category, else of everything. Behind every switch counts
    `approved`: product → the price that a person approved last.
    """

    def __init__(self, switches: Iterable[Switch] = (), approved: Mapping[str, float] = MappingProxyType({})) -> None:
        """Keeps the last of several with the same scope and name."""
        self.approved = approved
        self._of = {(switch.scope, switch.name): switch for switch in switches}
        self._everything = self._of.get(("all", ""))
        self._first_end = min((switch.until for switch in self if switch.until is not None), default=None)

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Switch]:
        return iter(self._of.values())

    def at(self, moment: dt.datetime) -> "Switches":
        """Those that have not ended by a moment."""
        if self._first_end is None or moment < self._first_end:
            return self
        return Switches((switch for switch in self if not switch.ended(moment)), self.approved)

    def of(self, product_id: str, *, category: str) -> Switch | None:
        """The switch that counts for a product; None where its price is free."""
        return self._of.get(("product", product_id)) or self._of.get(("category", category)) or self._everything


NO_SWITCHES = Switches()
