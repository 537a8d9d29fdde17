"""Request and response bodies of the REST API, besides those that the library defines."""

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, FailFast, Field

from pricing.decision.request import Decision, PriceRequest
from pricing.registry.version import ShownCompetitor
from pricing.served_config import Difference
from serving.follower import FollowerState, Following
from serving.problems import ProblemBody


class PriceRequests(BaseModel, frozen=True, extra="forbid"):
    """Several requests at once, answered by one model version."""

    # Fails at the first bad item; then all are read one by one: the faults of a million items would fill the memory.
    requests: Annotated[list[PriceRequest], FailFast(), Field(min_length=1)]


class ItemError(BaseModel):
    """Stands in the place of an item that could not be priced as it was sent."""

    error: ProblemBody


class Decisions(BaseModel):
    """One decision or error for each request, in order."""

    decisions: list[Decision | ItemError]


class Meaning(BaseModel):
    """A code in words."""

    code: str
    meaning: str


class Known(BaseModel):
    """How well an elasticity is known."""

    grade: Literal["tested", "own_history", "category", "prior_only"] = Field(description="What it was learnt from.")
    moves: int = Field(description="Price moves of persons in the history that it was learnt from.")
    prices: int = Field(description="Distinct prices ever charged.")
    doubts: str = Field(description="Codes of what speaks against it, joined by commas.")
    why: str = Field(description="Why the price stays, a sentence whose subject it is; empty where it may move by it.")


class Product(Known):
    """What the served version knows of a product."""

    product_id: str
    category: str
    price: float | None = Field(description="Price charged last.")
    list_price: float | None
    unit_cost: float | None = Field(description="Without tax.")
    tax_rate: float | None = Field(description="A fraction of the net price; null where it was never given.")
    comp_price: float | None = Field(description="The competitor's newest price known; null where none is.")
    comp_price_date: dt.date | None = Field(description="The day on which that was seen.")
    cost_assumed: bool = Field(description="Whether the configured margin stands in for a cost.")
    stock: float | None = Field(description="Units left when the history ended.")
    elasticity: float = Field(description="As /products/{product_id}/elasticity has it.")
    elasticity_low: float = Field(description="Low end of its 80 % interval.")
    elasticity_high: float = Field(description="High end of its 80 % interval.")


class Products(BaseModel):
    """Every product the served version knows, by id; empty without a version."""

    products: list[Product]


class Elasticity(Known):
    """The percentage by which demand changes when the price rises by one percent."""

    product_id: str
    elasticity: float
    low: float = Field(description="Low end of the 80 % interval.")
    high: float = Field(description="High end of the 80 % interval.")
    source: Literal["model", "category"] = Field(description="Whether own history or only its category is behind it.")
    parent_id: str | None = Field(description="The product of whose stores or channels it is one.")
    shared_by: int = Field(description="How many products, itself included, have this elasticity in common.")
    list_price: float = Field(description="The price at which it holds.")
    state_date: dt.date = Field(description="The day as of which it holds.")
    competitor: ShownCompetitor = Field(description="What the competitor's price does to demand.")
    model_version: str


class Follow(BaseModel):
    """How following what is published goes."""

    state: FollowerState
    champion: str | None = Field(description="The version that is published, as far as it is known.")
    detail: str | None = Field(description="What went wrong last: in /model, to keys of scope admin; else null.")
    refused: dict[str, str] = Field(description="Versions that are not served, and why; as detail.")

    @classmethod
    def of(cls, following: Following, *, addresses: bool) -> "Follow":
        """Converts the state; `addresses` says whether the caller may read addresses and paths."""
        refused = following.refused if addresses else dict.fromkeys(following.refused, "the service's log says why")
        detail = following.detail if addresses else None
        return cls(state=following.state, champion=following.champion, detail=detail, refused=dict(refused))


class Configuration(BaseModel):
    """What the answers follow: the settings that the version carries, and over them the file's `decision`."""

    file: str | None = Field(description="The file that the service was started with; null: none.")
    replaced: dict[str, Difference] = Field(description="Settings where they differ and the file's counts.")
    ignored: dict[str, Difference] = Field(description="Settings where they differ and the version's counts.")
    time_zone: str | None = Field(description="The shop's time zone, whose day is today; null: the machine's own.")
    strategy: str = Field(description="The strategy of a request that names none.")
    guardrails: dict[str, Any] = Field(description="The guardrails in force.")


class SwitchedPrices(BaseModel):
    """Prices that a person has frozen or given."""

    freezes: int = Field(description="Switches that freeze prices; each of a product, a category or everything.")
    overrides: int = Field(description="Switches that give a price.")
    everything: Literal["freeze", "override"] | None = Field(description="What counts for products without their own.")


class ModelInfo(BaseModel):
    """What answers now. What is told of a version is null without one."""

    model_version: str = Field(description='"none" while rules answer because there is no version.')
    products: int = 0
    state_date: dt.date | None = Field(default=None, description="The last day that the model has read.")
    state_age_days: int | None = None
    period: str | None = None
    horizon: int | None = None
    kind: str | None = Field(default=None, description="train, or refresh when it carries an older version's weights.")
    weights: str | None = Field(default=None, description="Hash of the weights.")
    grades: dict[str, float] | None = Field(default=None, description="Share of recent units per grade, 0 to 1.")
    holds_only: bool | None = Field(default=None, description="Whether no price moves by elasticities, too few known.")
    backtest: dict[str, Any] | None = Field(default=None, description="Figures of the walk-forward backtest behind it.")
    data: dict[str, Any] | None = Field(default=None, description="The rows read; where they lay only to scope admin.")
    following: Follow
    switches: SwitchedPrices
    configuration: Configuration
    keys: dict[str, bool | int] = Field(description="Whether API keys are `needed`, and how many are `known`.")


class Strategy(BaseModel):
    """An objective that a decision can maximise."""

    name: str
    default: bool
    description: str
    settings: dict[str, Any]


class Strategies(BaseModel):
    """The strategies that a request may name."""

    strategies: list[Strategy]


class Ready(BaseModel):
    """Whether prices come out, and by what."""

    status: Literal["ok"]
    model_version: str
    following: Follow
