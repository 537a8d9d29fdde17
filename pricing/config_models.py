"""What a person may tune: the sections of the configuration, and the bounds of their values."""

import datetime as dt
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pricing.errors import nearest


class Section(BaseModel):
    """Base of every section: frozen, and it refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PlausibilityConfig(Section):
    """What sales that keep the contract must look like for a model to be trained on them."""

    refuse: bool = True
    refuse_share: Annotated[float, Field(ge=0, lt=1)] = 0.001
    comp_factor: Annotated[float, Field(gt=1)] = 20.0
    units_factor: Annotated[float, Field(gt=1)] = 1000.0
    renamed_days: PositiveInt = 7


Feast = Literal[
    "easter",
    "thanksgiving",
    "black_friday",
    "cyber_monday",
    "lunar_new_year",
    "ramadan",
    "eid_al_fitr",
    "eid_al_adha",
    "diwali",
    "valentines_day",
    "mothers_day",
    "fathers_day",
    "halloween",
]
Around = Annotated[int, Field(ge=0, le=14)]
DayOfMonth = Annotated[int, Field(ge=-28, le=31)]


class DataConfig(Section):
    """How raw rows become a panel. Units stand beside the numbers in config/default.yaml."""

    period: Literal["day", "week"]
    country: Annotated[str, Field(min_length=2)]
    margin: dict[str, Annotated[float, Field(ge=0, lt=1)]]
    margin_sd: Annotated[float, Field(ge=0, lt=1)] = 0.10
    list_price_window: PositiveInt
    list_price_quantile: Annotated[float, Field(ge=0, le=1)]
    promo_cut: Annotated[float, Field(gt=0, lt=1)] | None = None
    missing: Literal["zero", "unknown", "error"] | None = None
    zero_run: Annotated[float, Field(gt=0, lt=1)] | None = None
    zero_window: PositiveInt = 35
    plausibility: PlausibilityConfig = PlausibilityConfig()
    named_holidays: bool = True
    feasts: list[Feast] | None = None
    events: str | None = None
    event_window: tuple[Around, Around] = (3, 1)
    school_holidays: list[tuple[dt.date, dt.date]] | str = []
    pay_days: list[DayOfMonth] = []
    promotions: str | None = None

    @model_validator(mode="after")
    def _days_are_days(self) -> "DataConfig":
        if 0 in self.pay_days:
            raise ValueError("pay_days: 0 is no day of a month; give 1 to 31, or −1 for the last day")
        for first, last in () if isinstance(self.school_holidays, str) else self.school_holidays:
            if last < first:
                raise ValueError(f"school_holidays: [{first}, {last}] ends before it begins; give [first, last]")
        return self

    @model_validator(mode="after")
    def _has_default_margin(self) -> "DataConfig":
        if "default" not in self.margin:
            raise ValueError("margin must keep the key default, for categories it does not name")
        return self


class DemandConfig(Section):
    """The demand model, its training and its walk-forward validation."""

    seed: int
    horizon: int = Field(ge=1)
    step: int = Field(ge=1)
    folds: int = Field(ge=1)
    gap: int = Field(ge=0)
    min_history: int = Field(ge=14)
    checkpoint: int = Field(ge=1)
    context: int = Field(ge=8)
    units: int = Field(ge=4, le=256)
    learning_rate: float = Field(gt=0, lt=1)
    steps: int = Field(ge=1)
    demand_steps: int = Field(ge=1)
    price_steps: int = Field(ge=1)
    nuisance_folds: int = Field(ge=2)
    block: int = Field(ge=7)
    rounds: int = Field(ge=1)
    elasticity_start: float = Field(lt=0)
    control: bool
    elasticity_prior_sd: float = Field(gt=0)
    elasticity_limits: tuple[float, float]
    elasticity_sd_factor: float = Field(ge=1)
    recency_half_life: PositiveFloat | None
    own_periods: int = Field(ge=1)
    booster_rows: NonNegativeInt = 100_000

    @model_validator(mode="after")
    def _start_lies_inside(self) -> "DemandConfig":
        low, high = self.elasticity_limits
        if not low < self.elasticity_start < high < 0:
            raise ValueError(
                f"elasticity_limits [{low:g}, {high:g}] must ascend, end below 0 and hold elasticity_start "
                f"{self.elasticity_start:g} between them"
            )
        return self


class Guardrails(Section):
    """The limits of every price, strongest first; what is None, 0 or empty is off. They give way from the end."""

    band: tuple[PositiveFloat, PositiveFloat]
    min_margin: float = Field(ge=0, lt=1)
    min_advertised: PositiveFloat | None
    min_days: NonNegativeInt
    seen: NonNegativeFloat | None = None
    max_move: PositiveFloat | None
    comp_band: tuple[PositiveFloat, PositiveFloat] | None
    endings: list[NonNegativeFloat]
    ending_unit: PositiveFloat
    ladder: list[PositiveFloat]

    @model_validator(mode="after")
    def _agree(self) -> "Guardrails":
        for name, band in (("band", self.band), ("comp_band", self.comp_band)):
            if band is not None and band[0] > band[1]:
                raise ValueError(f"{name}: its low end {band[0]} lies above its high end {band[1]}")
        if self.min_advertised is not None and self.min_advertised > self.band[1]:
            raise ValueError(
                f"min_advertised {self.min_advertised} lies above band's high end {self.band[1]}; both × list_price"
            )
        if self.endings and self.ladder:
            raise ValueError("endings and ladder both say which prices are allowed; give one of them")
        if self.endings and max(self.endings) >= self.ending_unit:
            raise ValueError(f"endings: {max(self.endings)} is not below ending_unit {self.ending_unit}")
        return self


class Calibration(Section):
    """Pairs [raw, calibrated] of confidence, both rising, between which is interpolated; empty changes nothing."""

    moves: list[tuple[float, float]]
    holds: list[tuple[float, float]]

    @model_validator(mode="after")
    def _rises(self) -> "Calibration":
        for name, pairs in (("moves", self.moves), ("holds", self.holds)):
            for (raw, calibrated), (next_raw, next_calibrated) in pairwise(pairs):
                if next_raw <= raw or next_calibrated < calibrated:
                    raise ValueError(f"{name}: {[next_raw, next_calibrated]} does not rise above {[raw, calibrated]}")
            if not all(0 <= value <= 1 for pair in pairs for value in pair):
                raise ValueError(f"{name}: every value must lie between 0 and 1")
        return self


class DecisionConfig(Section):
    """Strategies, guardrails and confidence."""

    strategy: str
    candidates: int = Field(ge=8, le=512)
    price_step: PositiveFloat
    confidence_threshold: float = Field(ge=0, le=1)
    menu_cost: float = Field(ge=0, lt=1)
    cvar_level: float = Field(gt=0, le=1)
    hold_step: float = Field(ge=0.01, lt=1)
    range_level: float = Field(gt=0, lt=0.5)
    review_days: PositiveInt
    target_margin: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    target_weight: NonNegativeFloat
    rule_elasticity: tuple[Annotated[float, Field(gt=1)], NonNegativeFloat]
    rule_price: PositiveFloat
    strategies: dict[str, dict[str, Any]]
    guardrails: Guardrails
    calibration: Calibration

    @model_validator(mode="after")
    def _agree(self) -> "DecisionConfig":
        if self.strategy not in self.strategies:
            raise ValueError(f"strategy {self.strategy!r} is none of strategies: {', '.join(sorted(self.strategies))}")
        for category, target in self.target_margin.items():
            if target < self.guardrails.min_margin:
                raise ValueError(
                    f"target_margin {target} of {category} is below guardrails.min_margin {self.guardrails.min_margin}"
                )
        for ending in (*self.guardrails.endings, *self.guardrails.ladder):
            if abs(ending / self.price_step - round(ending / self.price_step)) > 1e-6:
                raise ValueError(f"guardrails.endings, ladder: {ending} is no multiple of price_step {self.price_step}")
        return self


class GatesConfig(Section):
    """What a challenger must show. Ratios are of two errors, 1 meaning equal; shares are fractions."""

    naive_ratio: float = Field(gt=0)
    naive_ratio_by_volume: float = Field(gt=0)
    champion_ratio: float = Field(gt=0)
    champion_ratio_by_volume: float = Field(gt=0)
    bias: float = Field(gt=0)
    coverage_80: tuple[float, float]
    coverage_95: tuple[float, float]
    elasticity_sane: float = Field(ge=0, le=1)
    identified: float = Field(default=0.1, ge=0, le=1)
    products: float = Field(default=0.95, ge=0, le=1)
    parity: float = Field(gt=0)
    golden_latency_ms: float = Field(gt=0)


class RegistryConfig(Section):
    """The registered model, its gates and promotion."""

    model_name: str
    auto_promote: bool
    plots: bool = True
    gates: GatesConfig


class StrategyTestConfig(Section):
    """A strategy test: a share of the products, dealt to the strategies evenly and for good."""

    name: Annotated[str, Field(pattern=r"^[\w-]{1,50}$")]
    share: Annotated[float, Field(gt=0, le=1)]
    strategies: Annotated[list[str], Field(min_length=2)]


class ServingConfig(Section):
    """The REST service and its follower."""

    workers: Annotated[int, Field(ge=1, le=64)]
    threads: Annotated[int, Field(ge=1, le=64)]
    poll_seconds: Annotated[float, Field(ge=0.1, le=3600)]
    keep_versions: Annotated[int, Field(ge=1)]
    batch_limit: Annotated[int, Field(ge=1, le=100_000)]
    body_limit: Annotated[int, Field(ge=1_000)]
    keys: Literal["required", "local", "none"]
    rate_limit: Annotated[float, Field(ge=0)]
    rate_burst: Annotated[int, Field(ge=1)]
    log_flush_seconds: Annotated[float, Field(gt=0, le=1)]
    log_segment_mb: Annotated[float, Field(gt=0)]
    strategy_test: StrategyTestConfig | None
    challenger_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    challenger_shadow: Annotated[float, Field(ge=0, le=1)] = 0.0
    embedded_metrics: str = ""
    embedded_seconds: Annotated[float, Field(ge=1)] = 60.0


class EndpointsConfig(Section):
    """Addresses that monitoring's triggers, alerts and metrics go to."""

    webhook_url: str
    sns_topic: str
    ecs_cluster: str
    ecs_task: str
    ecs_container: str
    ecs_subnets: list[str]
    ecs_security_groups: list[str]
    event_bus: str
    namespace: str


class AlarmConfig(Section):
    """One alarm on a metric of the monitoring runs: exactly one of `above` and `below`, in the metric's unit."""

    metric: str
    above: float | None = None
    below: float | None = None
    days: Annotated[int, Field(ge=1, le=7)] = 1  # CloudWatch looks back a week at most
    missing: Literal["missing", "breaching"] = "missing"

    @model_validator(mode="after")
    def _one_limit(self) -> "AlarmConfig":
        if (self.above is None) == (self.below is None):
            raise ValueError(f"an alarm on {self.metric} needs exactly one of above and below")
        return self


class MonitoringConfig(Section):
    """Windows, thresholds and triggers."""

    window: PositiveInt
    reference: PositiveInt
    rows_sampled: PositiveInt
    false_alarm: Annotated[float, Field(gt=0, lt=1)]
    min_rows: PositiveInt
    score_window: PositiveInt
    score_window_most: PositiveInt = 182
    windows: PositiveInt
    breaches: PositiveInt
    maturities: Annotated[list[PositiveInt], Field(min_length=1)]
    error_tolerance: NonNegativeFloat
    bias_tolerance: NonNegativeFloat
    coverage_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.1
    fallback_share: Annotated[float, Field(gt=0, le=1)]
    max_state_age: PositiveInt
    silent_days: PositiveInt
    cooldown: NonNegativeInt
    recency_least: NonNegativeInt = 0
    daily_budget: NonNegativeInt
    lock_hours: PositiveFloat
    repeat_hours: NonNegativeFloat
    trigger: Literal["none", "local", "ecs", "event"]
    alerts: list[Literal["log", "webhook", "sns"]]
    metrics: list[Literal["cloudwatch", "embedded"]]
    endpoints: EndpointsConfig
    alarms: dict[str, AlarmConfig]

    @model_validator(mode="after")
    def _consistent(self) -> "MonitoringConfig":
        if self.breaches > self.windows:
            raise ValueError(f"breaches ({self.breaches}) cannot pass windows ({self.windows})")
        if sorted(set(self.maturities)) != self.maturities:
            raise ValueError(f"maturities must rise, found {self.maturities}")
        for channel, address in (("webhook", "webhook_url"), ("sns", "sns_topic")):
            if channel in self.alerts and not getattr(self.endpoints, address):
                raise ValueError(f"alerts: {channel} has no address; set endpoints.{address}")
        if self.trigger == "ecs" and not (
            self.endpoints.ecs_cluster and self.endpoints.ecs_task and self.endpoints.ecs_subnets
        ):
            raise ValueError("trigger: ecs needs endpoints.ecs_cluster, endpoints.ecs_task and endpoints.ecs_subnets")
        return self


class RangeConfig(Section):
    """Numbers that tuning may try: from `low` to `high`, both included, in steps or evenly on a log scale."""

    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @model_validator(mode="after")
    def _makes_sense(self) -> "RangeConfig":
        if self.low > self.high or (self.log and (self.low <= 0 or self.step is not None)):
            raise ValueError("expected low ≤ high, and with log a low above 0 and no step")
        return self


class ChoicesConfig(Section):
    """Values that tuning may try, in no order."""

    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=1)]


class TuningConfig(Section):
    """The search for better settings of the demand section: its budget, and which values it may try."""

    trials: PositiveInt
    minutes: NonNegativeFloat
    workers: Annotated[int, Field(ge=1, le=64)]
    batch: PositiveInt
    startup: PositiveInt
    silent_seconds: Annotated[int, Field(ge=4)] = 300
    space: dict[str, RangeConfig | ChoicesConfig | None]

    @model_validator(mode="after")
    def _demand_keys(self) -> "TuningConfig":
        fixed = {"seed", "horizon", "step", "folds", "gap", "min_history"}  # they decide what the score means
        for key in self.space:
            if key not in DemandConfig.model_fields or key in fixed:
                free = sorted(set(DemandConfig.model_fields) - fixed)
                near = nearest(key, free, cutoff=0.0)
                raise ValueError(f"{key} is no key of demand that may be tuned; the nearest one is {near}")
        if not any(self.space.values()):
            raise ValueError("space holds nothing to search")
        return self
