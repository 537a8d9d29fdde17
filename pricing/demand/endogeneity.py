"""Which price moves are routine and which deliberate: the part of a move that may answer to demand nobody else saw.

Whoever sets prices answers to demand they see, so a price a little above its expectation tells of demand above its
own, and a regression takes that for a weak elasticity. Routine moves are small; large ones (clearances, campaigns,
mistakes) have reasons of their own. With both kinds drawn from normal distributions of mean 0, what a move tells of
hidden demand is proportional to the move times the chance that it is routine: a control function (Petrin and Train
2010, doi:10.1509/jmkr.47.1.3) that fades for large moves. Its coefficient is identified by the shape of the
distribution (heteroskedasticity identifies: Rigobon 2003, doi:10.1162/003465303772815727) and shared by all products.
"""

from dataclasses import dataclass

import numpy as np

from pricing.arrays import Floats

ROUNDS = 60
SAMPLE = 60_000


@dataclass(frozen=True)
class Moves:
    """A mixture of two normal distributions of mean 0 over price residuals, in log units.

    Attributes:
        routine: Standard deviation of routine moves.
        deliberate: Standard deviation of deliberate moves, larger.
        share: Share of deliberate moves.
    """

    routine: float
    deliberate: float
    share: float


def fit_moves(residual: Floats) -> Moves:
    """Fits the mixture by expectation–maximisation (Dempster, Laird, Rubin 1977) to (move,) residuals."""
    move = residual[:: max(len(residual) // SAMPLE, 1)].astype(np.float64)
    if not len(move):
        return Moves(1.0, 1.0, 0.0)
    scale = max(float(np.std(move)), 1e-6)
    small, large, share = 0.5 * scale, 2.0 * scale, 0.1
    for _ in range(ROUNDS):
        chance = _chance(move, Moves(small, large, share))
        share = float(np.clip(chance.mean(), 1e-3, 0.5))
        large = max(float(np.sqrt((chance * move**2).sum() / max(chance.sum(), 1e-9))), 1e-6)
        small = max(float(np.sqrt(((1 - chance) * move**2).sum() / max((1 - chance).sum(), 1e-9))), 1e-6)
    return Moves(min(small, large), max(small, large), share)


def routine_part(residual: Floats, moves: Moves) -> Floats:
    """The control: each residual times the chance that it is a routine move; same shape."""
    part: Floats = residual * (1.0 - _chance(residual, moves))
    return part


def _chance(move: Floats, moves: Moves) -> Floats:
    """Probability that a move is deliberate."""
    with np.errstate(over="ignore", under="ignore"):
        odds = (
            (1.0 - moves.share)
            / moves.share
            * (moves.deliberate / moves.routine)
            * np.exp(-0.5 * move**2 * (1.0 / moves.routine**2 - 1.0 / moves.deliberate**2))
            if moves.share > 0
            else np.full_like(move, np.inf)
        )
        chance: Floats = 1.0 / (1.0 + odds)
    return chance
