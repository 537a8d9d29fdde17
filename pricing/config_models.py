"""The sections of the configuration, and the bounds of their values."""

import datetime as dt
import re
from typing import Annotated, Any, Literal, Self

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
UpToAYear = Annotated[int, Field(ge=1, le=366)]  # periods or days
KeptDays = Annotated[int, Field(ge=0, le=36_600)]  # 0: for ever
Steps = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]  # a share that is neither none nor all
Tolerance = Annotated[float, Field(gt=0, le=1000)]
Coin = Annotated[float, Field(gt=0, le=1e6)]  # a step of prices, currency units
Ratio = Annotated[float, Field(gt=0, le=10)]  # of a price to another one, or of an error
Band = Annotated[tuple[Ratio, Ratio], AfterValidator(_ascending)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_ascending)]


class QualityConfig(Section):
    """The word of a person on sales that differ from their own past."""

    most_set_aside: Fraction = 0.05
    accept: dict[str, dt.date] = {}
    leave_out: list[Annotated[tuple[dt.date, dt.date], AfterValidator(_ascending)]] = []


FORTNIGHT = 14.0  # days: a week between two visits of a weekly price survey, and a week that a request looks ahead
Age = Annotated[float, Field(ge=0, le=3_660)]


class DataConfig(Section):
    """How raw rows become a panel. Units stand beside the numbers in config/default.yaml."""

    period: Literal["day", "week"]
    country: Annotated[str, Field(min_length=2, max_length=10)]
    margin: dict[str, Fraction]
    tax_rate: Share | None = None
    list_price_window: Periods
    promo_cut: Inside | None = None
    missing: Literal["zero", "unknown", "error"] | None = None
    zero_run: Inside | None = None
    quality: QualityConfig = QualityConfig()
    events: str | None = None
    promotions: str | None = None
    deliveries: str | None = None
    comp_price_max_age: Age = FORTNIGHT
    time_zone: str | None = None  # the shop's, as the configuration names it beside the sections; tells days of moments

    @model_validator(mode="after")
    def _has_default_margin(self) -> Self:
        if "default" not in self.margin:
            raise ValueError("margin must keep the key default, for categories it does not name")
        return self


class DemandConfig(Section):
    """The demand model, its training and its walk-forward validation."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    horizon: UpToAYear
    step: UpToAYear
    folds: Annotated[int, Field(ge=1, le=100)]
    min_history: Annotated[int, Field(ge=14, le=3_660)]
    checkpoint: Periods
    context: Annotated[int, Field(ge=8, le=3_660)]
    units: Annotated[int, Field(ge=4, le=256)]
    learning_rate: Inside
    steps: Steps
    demand_steps: Steps
    price_steps: Steps
    rounds: Annotated[int, Field(ge=1, le=20)]
    shared_doubt: Annotated[float, Field(ge=0, le=2)]
    own_periods: Annotated[int, Field(ge=1, le=365)]
    booster_rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100_000


class Guardrails(Section):
    """The limits of every price, strongest first; what is None, 0 or empty is off, and so is what gives way.

    `docs/shop/guardrails.md` has the order in which they do.
    """

    band: Band
    min_margin: Fraction
    min_advertised: Ratio | None
    min_days: Annotated[int, Field(ge=0, le=366)]
    max_move: Annotated[float, Field(gt=0, le=1)] | None
    seen: Annotated[float, Field(ge=0, le=10)] | None = None
    comp_band: Band | None
    endings: list[Annotated[float, Field(ge=0, le=1e6)]]
    ending_unit: Coin

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.min_advertised is not None and self.min_advertised > self.band[1]:
            raise ValueError(
                f"min_advertised {self.min_advertised} lies above band's high end {self.band[1]}; both × list_price"
            )
        if self.endings and max(self.endings) >= self.ending_unit:
            raise ValueError(f"endings: {max(self.endings)} is not below ending_unit {self.ending_unit}")
        return self


class StrategyConfig(Section):
    """Base of a strategy's parameters; `pricing.decision.decide` says what each kind maximises."""

    days: UpToAYear | None = Field(
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
    days: UpToAYear | None = Field(default=14, description="Days until the stock must be gone; a given delivery wins.")
    kept_value: KeptValue = 0.3


class MatchConfig(StrategyConfig):
    """Nearness, within the guardrails, to a ratio of the competitor's price; profit where that price is not known."""

    kind: Literal["match"]
    ratio: Ratio = Field(default=1.0, description="Of the competitor's price.")


AnyStrategyConfig = Annotated[MarginConfig | RevenueConfig | ClearanceConfig | MatchConfig, Field(discriminator="kind")]


class DecisionConfig(Section):
    """Strategies, guardrails and confidence."""

    strategy: str
    price_step: Coin
    confidence_threshold: Share
    menu_cost: Fraction
    step: Share
    review_days: UpToAYear
    approve_beyond: Share | None = None
    target_margin: dict[str, Inside]
    field_elasticity: dict[str, Annotated[float, Field(ge=-20, lt=0)]]
    field_test: Literal["off", "warn", "hold"]
    comp_price_max_age: Age = FORTNIGHT
    strategies: dict[str, AnyStrategyConfig]
    guardrails: Guardrails
    confidence_slope: Share

    @model_validator(mode="after")
    def _agree(self) -> Self:
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

    median: Ratio = 0.11
    p95: Ratio = 0.21


class GatesConfig(Section):
    """The limits that a challenger must keep. Ratios are of two errors, 1 meaning equal; shares are fractions."""

    naive_ratio: Tolerance
    champion_ratio: Tolerance
    bias: Tolerance
    coverage_80: Shares
    coverage_95: Shares
    elasticity_sane: Share
    identified: Share = 0.1
    products: Share = 0.95
    price_moves: PriceMovesConfig = PriceMovesConfig()
    golden_latency_ms: Annotated[float, Field(gt=0, le=1e9)]


class RegistryConfig(Section):
    """The registered model, its gates and promotion."""

    model_name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    auto_promote: bool
    auto_refresh: bool = True
    keep_days: KeptDays = 270
    plots: bool = True
    gates: GatesConfig


class ServingConfig(Section):
    """The REST service and its follower."""

    threads: Annotated[int, Field(ge=1, le=64)]
    keys: Literal["required", "local", "none"]
    log_days: KeptDays = 730
    largest_jump: Inside | None = 0.30
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

    window: Periods
    false_alarm: Inside
    min_rows: Annotated[int, Field(ge=1, le=1_000_000_000)]
    score_window: Periods
    error_tolerance: Annotated[float, Field(ge=0, le=1000)]
    bias_tolerance: Annotated[float, Field(ge=0, le=1000)]
    fallback_share: Annotated[float, Field(gt=0, le=1)]
    silent_days: Periods
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
    def _channels_have_addresses(self) -> Self:
        for channel, address in (("webhook", "webhook_url"), ("sns", "sns_topic")):
            if channel in self.alerts and not getattr(self.endpoints, address):
                raise ValueError(f"alerts: {channel} has no address; set endpoints.{address}")
        return self


class TuningConfig(Section):
    """The budget of the search for better settings of the demand section."""

    trials: Steps
    startup: Steps
