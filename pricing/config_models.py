"""The sections of the configuration, and the bounds of their values."""

import datetime as dt
import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
    model_validator,
)

from pricing.errors import nearest


class Section(BaseModel):
    """Base of every section: frozen, and it refuses keys it does not know, infinities, and true for a number."""

    # Built at first use, and only what is used: each process of the service imports this before it does anything else.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def _ascending(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[1] < pair[0]:
        raise ValueError(f"its first {pair[0]} lies above its last {pair[1]}")
    return pair


Periods = Annotated[int, Field(ge=1, le=3_660)]
Days = Annotated[int, Field(ge=1, le=3_660)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=10)]  # of a price to another one, or of an error
Money = Annotated[float, Field(gt=0, le=1e9)]
Band = Annotated[tuple[Ratio, Ratio], AfterValidator(_ascending)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ascending)]


class QualityConfig(Section):
    """The word of a person on sales that differ from their own past."""

    most_set_aside: Annotated[float, Field(ge=0, lt=1)] = 0.05
    accept: dict[str, dt.date] = {}
    leave_out: list[Annotated[tuple[dt.date, dt.date], AfterValidator(_ascending)]] = []


FORTNIGHT = 14.0  # days: a week between two visits of a weekly price survey, and a week that a request looks ahead
Age = Annotated[float, Field(ge=0, le=3_660)]


class DataConfig(Section):
    """How raw rows become a panel. Units stand beside the numbers in config/default.yaml."""

    period: Literal["day", "week"]
    country: Annotated[str, Field(min_length=2, max_length=10)]
    margin: dict[str, Annotated[float, Field(ge=0, lt=1)]]
    tax_rate: Share | None = None
    list_price_window: Periods
    promo_cut: Annotated[float, Field(gt=0, lt=1)] | None = None
    missing: Literal["zero", "unknown", "error"] | None = None
    zero_run: Annotated[float, Field(gt=0, lt=1)] | None = None
    quality: QualityConfig = QualityConfig()
    events: str | None = None
    promotions: str | None = None
    deliveries: str | None = None
    comp_price_max_age: Age = FORTNIGHT
    time_zone: str | None = None  # the shop's, as the configuration names it beside the sections; tells days of moments

    @model_validator(mode="after")
    def _has_default_margin(self) -> "DataConfig":
        if "default" not in self.margin:
            raise ValueError("margin must keep the key default, for categories it does not name")
        return self


class DemandConfig(Section):
    """The demand model, its training and its walk-forward validation."""

    seed: int = Field(ge=0, lt=2**32)
    horizon: int = Field(ge=1, le=366)
    step: int = Field(ge=1, le=366)
    folds: int = Field(ge=1, le=100)
    min_history: int = Field(ge=14, le=3_660)
    checkpoint: Periods
    context: int = Field(ge=8, le=3_660)
    units: int = Field(ge=4, le=256)
    learning_rate: float = Field(gt=0, lt=1)
    steps: Steps
    demand_steps: Steps
    price_steps: Steps
    rounds: int = Field(ge=1, le=20)
    own_periods: int = Field(ge=1, le=365)
    booster_rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100_000


class Guardrails(Section):
    """The limits of every price, strongest first; what is None, 0 or empty is off, and so is what gives way.

    `docs/shop/guardrails.md` has the order in which they do.
    """

    band: Band
    min_margin: float = Field(ge=0, lt=1)
    min_advertised: Ratio | None
    min_days: int = Field(ge=0, le=366)
    max_move: Annotated[float, Field(gt=0, le=1)] | None
    seen: Annotated[float, Field(ge=0, le=10)] | None = None
    comp_band: Band | None
    endings: list[Annotated[float, Field(ge=0, le=1e6)]]
    ending_unit: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="after")
    def _agree(self) -> "Guardrails":
        if self.min_advertised is not None and self.min_advertised > self.band[1]:
            raise ValueError(
                f"min_advertised {self.min_advertised} lies above band's high end {self.band[1]}; both × list_price"
            )
        if self.endings and max(self.endings) >= self.ending_unit:
            raise ValueError(f"endings: {max(self.endings)} is not below ending_unit {self.ending_unit}")
        return self


class StrategyConfig(Section):
    """Base of a strategy's parameters; `pricing.decision.decide` says what each kind maximises."""

    days: Annotated[int, Field(ge=1, le=366)] | None = Field(
        default=None, description="Days it looks ahead where no delivery is given; null: the deliveries learnt."
    )


KeptValue = Annotated[float, Field(ge=0, le=10, description="Worth of a unit kept, fraction of its cost.")]


class MarginConfig(StrategyConfig):
    """Profit: price less what a kept unit is worth, drawn to the category's target margin where there is one."""

    kind: Literal["margin"]
    kept_value: KeptValue = 1.0


class RevenueConfig(StrategyConfig):
    """Turnover: units sold times price, net of tax, inside the guardrails and so never below cost."""

    kind: Literal["revenue"]


class ClearanceConfig(StrategyConfig):
    """Getting rid of stock by a day: profit when what is left over then is worth a fraction of its cost."""

    kind: Literal["clearance"]
    days: Annotated[int, Field(ge=1, le=366)] | None = Field(
        default=14, description="Days until the stock must be gone; a given delivery wins."
    )
    kept_value: KeptValue = 0.3


class MatchConfig(StrategyConfig):
    """Nearness, within the guardrails, to a ratio of the competitor's price; profit where that price is not known."""

    kind: Literal["match"]
    ratio: Ratio = Field(default=1.0, description="Of the competitor's price.")


AnyStrategyConfig = Annotated[MarginConfig | RevenueConfig | ClearanceConfig | MatchConfig, Field(discriminator="kind")]


class DecisionConfig(Section):
    """Strategies, guardrails and confidence."""

    strategy: str
    price_step: Annotated[float, Field(gt=0, le=1e6)]
    confidence_threshold: Share
    menu_cost: float = Field(ge=0, lt=1)
    step: float = Field(ge=0, le=1)
    review_days: int = Field(ge=1, le=366)
    approve_beyond: Share | None = None
    target_margin: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    comp_price_max_age: Age = FORTNIGHT
    strategies: dict[str, AnyStrategyConfig]
    guardrails: Guardrails
    calibration: dict[Literal["moves", "kept"], list[tuple[Share, Share]]]

    @field_validator("calibration")
    @classmethod
    def _rises(cls, tables: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
        for name, pairs in tables.items():
            for (raw, calibrated), (next_raw, next_calibrated) in pairwise(pairs):
                if next_raw <= raw or next_calibrated < calibrated:
                    raise ValueError(f"{name}: {[next_raw, next_calibrated]} does not rise above {[raw, calibrated]}")
        return tables

    @model_validator(mode="after")
    def _agree(self) -> "DecisionConfig":
        if self.strategy not in self.strategies:
            near = nearest(self.strategy, self.strategies)
            raise ValueError(
                f"strategy {self.strategy!r} is none of strategies: {', '.join(sorted(self.strategies))}"
                + (f"; the nearest is {near}" if near else "")
            )
        for category, target in self.target_margin.items():
            if target < self.guardrails.min_margin:
                raise ValueError(
                    f"target_margin {target} of {category} is below guardrails.min_margin {self.guardrails.min_margin}"
                )
        for ending in self.guardrails.endings:
            if abs(ending / self.price_step - round(ending / self.price_step)) > 1e-6:
                raise ValueError(f"guardrails.endings: {ending} is no multiple of price_step {self.price_step}")
        return self


class PriceMovesConfig(Section):
    """How far a promotion may move prices: logs of price ratios, 0.1 being about 10 %."""

    median: Annotated[float, Field(gt=0, le=10)] = 0.11
    p95: Annotated[float, Field(gt=0, le=10)] = 0.21


class GatesConfig(Section):
    """The limits that a challenger must keep. Ratios are of two errors, 1 meaning equal; shares are fractions."""

    naive_ratio: float = Field(gt=0, le=1000)
    champion_ratio: float = Field(gt=0, le=1000)
    bias: float = Field(gt=0, le=1000)
    coverage_80: Shares
    coverage_95: Shares
    elasticity_sane: Share
    identified: Share = 0.1
    products: Share = 0.95
    price_moves: PriceMovesConfig = PriceMovesConfig()
    golden_latency_ms: float = Field(gt=0, le=1e9)


class RegistryConfig(Section):
    """The registered model, its gates and promotion."""

    model_name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    auto_promote: bool
    auto_refresh: bool = True
    keep_days: Annotated[int, Field(ge=0, le=36_600)] = 270
    plots: bool = True
    gates: GatesConfig


class ServingConfig(Section):
    """The REST service and its follower."""

    threads: Annotated[int, Field(ge=1, le=64)]
    keys: Literal["required", "local", "none"]
    log_days: Annotated[int, Field(ge=0, le=36_600)] = 730
    largest_jump: Annotated[float, Field(gt=0, lt=1)] | None = 0.30
    jump_confirmed: Annotated[int, Field(ge=2, le=366)] = 5


class ScaleConfig(Section):
    """Partitions of sales that are too many for one machine, and who works on them."""

    scheduler: Annotated[str, Field(pattern=r"^(none|local|tls://\S+|tcp://\S+)$")]
    workers: Annotated[int, Field(ge=1, le=1_000)]
    series: Annotated[int, Field(ge=1, le=1_000_000)]
    sample: Annotated[int, Field(ge=1, le=1_000_000)]


class ConsoleConfig(Section):
    """The pages for pricing managers."""

    trusted_proxy: IPvAnyNetwork | None = None
    push_url: SecretStr | None = None

    @field_validator("push_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        near = r"(https://|http://(127\.0\.0\.1|[a-z0-9-]+)[:/])\S+"
        if value is not None and re.fullmatch(near, value.get_secret_value()) is None:
            raise ValueError("expected https://…, or http:// of this machine's network")
        return value


Channel = Literal["log", "webhook", "sns"]
Severity = Literal["info", "warning", "critical"]


class EndpointsConfig(Section):
    """Addresses that monitoring's triggers, alerts and metrics go to."""

    webhook_url: SecretStr
    sns_topic: str
    event_bus: str
    namespace: str
    mlflow_url: str = ""


MOST_AHEAD = 28  # days that a price is decided before its day, at most, for its decision to be looked at
SCORE_WINDOWS = 3  # looked at by monitoring, which share no day


class MonitoringConfig(Section):
    """Windows, thresholds and triggers."""

    window: Days
    false_alarm: Annotated[float, Field(gt=0, lt=1)]
    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)]
    score_window: Days
    error_tolerance: Annotated[float, Field(ge=0, le=1000)]
    bias_tolerance: Annotated[float, Field(ge=0, le=1000)]
    fallback_share: Annotated[float, Field(gt=0, le=1)]
    silent_days: Days
    undecided_days: Annotated[int, Field(ge=0, le=3_660)] = 1
    cooldown: Annotated[int, Field(ge=0, le=3_660)]
    lock_hours: Annotated[float, Field(gt=0, le=8_784)]
    trigger: Literal["none", "local", "event"]
    alerts: list[Channel]
    metrics: list[Literal["cloudwatch"]]
    endpoints: EndpointsConfig

    @property
    def days_looked_at(self) -> int:
        """The newest days whose decisions an evaluation needs, but for a small shop, whose windows grow.

        The windows of drift and of decay, and as many days as a decision is made in advance at most.
        """
        return max(self.window, self.score_window * SCORE_WINDOWS) + MOST_AHEAD

    @model_validator(mode="after")
    def _channels_have_addresses(self) -> "MonitoringConfig":
        for channel, address in (("webhook", "webhook_url"), ("sns", "sns_topic")):
            if channel in self.alerts and not getattr(self.endpoints, address):
                raise ValueError(f"alerts: {channel} has no address; set endpoints.{address}")
        return self


class TuningConfig(Section):
    """The budget of the search for better settings of the demand section."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    startup: Annotated[int, Field(ge=1, le=100_000)]
