"""Options of a simulated market, and each family's seeds."""

from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.dataclasses import dataclass as bounded

from pricing.errors import ConfigError
from simulation.kinds import KINDS, Family, Kind

DEVELOPMENT_SEEDS: dict[Family, tuple[int, ...]] = {  # markets for development and tuning
    "default": tuple(range(20)),
    "foreign": tuple(range(200, 220)),
    "merchant": tuple(range(400, 420)),
    "choice": tuple(range(600, 620)),
}
HELD_OUT_SEEDS: dict[Family, tuple[int, ...]] = {  # markets for evaluation only
    "default": (*range(100, 120), *range(125, 145)),  # 120 to 124 were used for new products
    "foreign": tuple(range(300, 320)),
    "merchant": tuple(range(500, 520)),
    "choice": tuple(range(700, 720)),
}
BAND = (0.70, 1.35)  # of the list price; for the incumbent and all policies
INSIDE = 0.3  # share of a nest's shoppers who buy at first list prices; the rest take the outside option
HELD_DAYS = 28  # days that a price is held for an elasticity to count as long-run, where shoppers have state
BEYOND = 70  # days past the future for which deliveries and seasons are drawn, so that every day has a next delivery
OF_THE_DEFAULT = ("mean_elasticity", "endogeneity", "unseen")


@bounded(frozen=True, config=ConfigDict(extra="forbid"))
class MarketConfig:
    """Options of a market; those out of range are a ConfigError. The same options give exactly the same market."""

    kind: Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")] = "default"
    products: Annotated[int, Field(ge=1)] = 60  # products with a history
    days: Annotated[int, Field(ge=28)] = 730  # days of history
    seed: Annotated[int, Field(ge=0)] = 0  # seed of all random draws
    future: Annotated[int, Field(ge=0)] = 120  # days after the history available for a roll-forward
    categories: Annotated[int, Field(ge=1)] = 6  # number of categories
    # Approximate mean of the products' own-price elasticities. This and what follows are options of the default kind.
    mean_elasticity: Annotated[float, Field(ge=-10, le=-1)] = -2.5
    # How strongly the incumbent reacts to shocks and cover; 0 makes prices independent of demand.
    endogeneity: Annotated[float, Field(ge=0, le=5)] = 1.0
    # Products that launch after the end of the history, as a share of `products`.
    unseen: Annotated[float, Field(ge=0, le=1)] = 0.05

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, options: Any, checked: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = checked(options)
        except ValidationError as error:
            faults = (f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
            raise ConfigError("market: " + "; ".join(faults)) from error
        if config.kind != "default" and any(getattr(config, name) != getattr(cls, name) for name in OF_THE_DEFAULT):
            raise ConfigError(f"market: only the default kind has {', '.join(OF_THE_DEFAULT)}")
        return config

    @property
    def settings(self) -> Kind:
        """Settings of its kind, with its own elasticities."""
        settings = KINDS[self.kind]
        if self.kind != "default":
            return settings
        slope = -self.mean_elasticity
        low, high = settings.slope_bounds
        return replace(settings, slope=slope, slope_bounds=(low, high * max(1.0, slope / settings.slope)))

    @property
    def total_days(self) -> int:
        """Days of history and future together."""
        return self.days + self.future

    @property
    def total_products(self) -> int:
        """Products with a history and those that launch after it."""
        return self.products + (round(self.unseen * self.products) if self.kind == "default" else 0)
