"""The markets that the demand benchmark runs on: three families, their settings by name, their sealed seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from simulation import foreign_config, merchant
from simulation.config import DEVELOPMENT_SEEDS, HELD_OUT_SEEDS
from simulation.foreign import simulate_foreign
from simulation.foreign_config import SCENARIOS, ForeignConfig
from simulation.market import MarketConfig, simulate
from simulation.merchant import VARIANTS, MerchantConfig, simulate_merchant
from simulation.protocol import SimulatedMarket

Family = Literal["default", "foreign", "merchant"]


@dataclass(frozen=True)
class Setting:
    """A kind of market.

    Attributes:
        title: One line for tables.
        family: Which of the three families it belongs to.
        options: What is different from the family's default configuration.
        withhold: Columns that the platform does not get in this kind of market.
    """

    title: str
    family: Family = "default"
    options: dict[str, Any] = field(default_factory=dict)
    withhold: tuple[str, ...] = ()

    def seeds(self, *, development: bool) -> Sequence[int]:
        """The seeds to look at, or those to be judged on."""
        look, judge = {
            "default": (DEVELOPMENT_SEEDS, HELD_OUT_SEEDS),
            "foreign": (foreign_config.DEVELOPMENT_SEEDS, foreign_config.HELD_OUT_SEEDS),
            "merchant": (merchant.DEVELOPMENT_SEEDS, merchant.HELD_OUT_SEEDS),
        }[self.family]
        return look if development else judge

    def market(self, seed: int, *, size: dict[str, int]) -> SimulatedMarket:
        """Simulates the market of one seed; `size` may set `products`, `days` and `future`."""
        options = self.options | size
        if self.family == "foreign":
            return simulate_foreign(ForeignConfig(seed=seed, **options))
        if self.family == "merchant":
            return simulate_merchant(MerchantConfig(seed=seed, **options))
        return simulate(MarketConfig(seed=seed, **options))


SETTINGS: dict[str, Setting] = {
    "default": Setting("Default: mean elasticity about −2.5"),
    "inelastic": Setting("Mean elasticity about −1.6", options={"mean_elasticity": -1.6}),
    "elastic": Setting("Mean elasticity about −3.5", options={"mean_elasticity": -3.5}),
    "blind": Setting("Endogeneity 0: past prices blind to demand", options={"endogeneity": 0.0}),
    "noisy": Setting("Noise doubled", options={"noise": 2.0}),
    "sparse": Setting("Nine price points", options={"price_points": 9}),
    "few": Setting("20 products", options={"products": 20}),
    "many": Setting("1,000 products", options={"products": 1000}),
    "regime": Setting("Regime change 45 days before the end of the history", options={"regime_change": True}),
}
SETTINGS |= {name: Setting(scenario.title, "foreign", {"scenario": name}) for name, scenario in SCENARIOS.items()}
SETTINGS |= {
    "merchant" if name == "plain" else f"merchant_{name}": Setting(
        variant.title, "merchant", {"variant": name}, variant.withheld
    )
    for name, variant in VARIANTS.items()
}
