"""Price, cost and tax: the only place where what a shopper pays is turned into what a shop earns.

A price is what the shopper pays, tax included; a cost is net. With a tax rate of 0 every function gives, to the last
bit, what it would give without a tax. Arguments are numbers or arrays that broadcast; results are in their currency
units, and for arrays of single precision in single precision.
"""

from typing import Any

import numpy as np

from pricing.arrays import Floats, Ints

HIGHEST_TAX = 1.0
"""The highest tax rate, a fraction of the net price; above it a percentage was meant."""
# A Python number, or an array. A type checker could only follow both with every formula written twice.
Number = Any


def net_price(price: Number, tax_rate: Number) -> Number:
    """Tells what the shop keeps of a price; the tax rate is a fraction of the net price: 0.20 for 20 %.

    Example:
        >>> from pricing.data.net_price import net_price
        >>> net_price(12.0, 0.20)
        10.0
    """
    return price / (1 + tax_rate)


def with_tax(net: Number, tax_rate: Number) -> Number:
    """The price at which a net amount is left; of a cost, the lowest price that covers it."""
    return net * (1 + tax_rate)


def unit_profit(price: Number, unit_cost: Number, *, tax_rate: Number) -> Number:
    """Tells what a unit sold at a price earns over its cost."""
    return net_price(price, tax_rate) - unit_cost


def margin_of(price: Number, unit_cost: Number, *, tax_rate: Number) -> Number:
    """The margin of a price: profit as a fraction of the net price."""
    return 1 - unit_cost / net_price(price, tax_rate)


def cost_at_margin(price: Number, margin: Number, *, tax_rate: Number) -> Number:
    """The cost at which a price has a margin, a fraction of the net price."""
    return net_price(price, tax_rate) * (1 - margin)


def price_at_margin(unit_cost: Number, margin: Number, *, tax_rate: Number) -> Number:
    """The price at which a cost leaves a margin, a fraction of the net price, below 1."""
    return with_tax(unit_cost / (1 - margin), tax_rate)


def highest_rates(tax_rate: Floats, category: Ints) -> Floats:
    """(product, period) the highest tax rate known in each one's category, where none is of all products, and else 0.

    It stands in for a rate that nobody gave: with any lower one a price could lie below net cost. Unknown rates are
    NaN; categories are numbers from 0 on, in a shape that broadcasts.
    """
    category = np.broadcast_to(category, tax_rate.shape)
    known, period = np.nan_to_num(tax_rate, nan=-np.inf), np.broadcast_to(np.arange(tax_rate.shape[1]), tax_rate.shape)
    highest = np.full((int(category.max(initial=0)) + 1, tax_rate.shape[1]), -np.inf, dtype=tax_rate.dtype)
    np.maximum.at(highest, (category, period), known)
    overall = known.max(axis=0, initial=0.0)
    found = highest[category, period]
    return np.where(np.isfinite(found), found, overall)
