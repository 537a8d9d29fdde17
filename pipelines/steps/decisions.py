"""Tables of price requests, their decisions in batches, and these as tables again."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pricing.decision.pricer import Pricer
from pricing.decision.reasons import meanings
from pricing.decision.request import DetailedDecision, PriceRequest, request_fields
from pricing.decision.switches import Control
from pricing.errors import RequestError, SourceError
from pricing.fileio import replace_atomically
from pricing.quoting import quote_formulas

BATCH = 1000
SHOWN = 5  # most faults listed in an error
COLUMNS = [
    "product_id",
    "date",
    "recommended_price",
    "confidence",
    "price_low",
    "price_high",
    "expected_units",
    "expected_margin",
    "expected_gain",
    "gain_low",
    "gain_high",
    "worst_case",
    "source",
    "reasons",
    "binds",
    "gave_way",
    "strategy",
    "model_version",
    "decision_id",
    "current_price",
    "list_price",
    "unit_cost",
    "tax_rate",
    "comp_price_used",
    "comp_price_age",
    "proposed_price",
    "category",
    "current_stock",
    "name",
    "step",
]
_REQUESTS = TypeAdapter(list[PriceRequest])


def read_requests(frame: pd.DataFrame, *, where: str) -> list[PriceRequest]:
    """Validates rows as price requests.

    Args:
        frame: A price request's fields as columns; an empty cell is an absent field (see `request_fields`).
        where: Where they come from, for the message.

    Raises:
        RequestError: Some rows are none; gives their number and the first ones, counted from 1.
    """
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    if not rows:
        raise RequestError(f"{where}: has no row; expected a price request in each")
    try:
        return _REQUESTS.validate_python([request_fields(row) for row in rows])
    except ValidationError as error:
        faults = error.errors()
        bad = len({fault["loc"][0] for fault in faults})
        first = "".join(
            f"\n  - row {int(fault['loc'][0]) + 1}: {'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}"
            for fault in faults[:SHOWN]
        )
        raise RequestError(
            f"{where}: {bad:,} of {len(rows):,} rows are no price request, and nothing was priced:{first}"
        ) from error


def decide(pricer: Pricer, requests: list[PriceRequest], *, today: dt.date, control: Control) -> list[DetailedDecision]:
    """Prices requests in batches, as of `today`, under what people have switched and tried.

    Raises:
        RequestError: One cannot be answered; names it.
    """
    known: dict[str, Any] = {"today": today, "experiments": control.experiments, "switches": control.switches}
    answers: list[DetailedDecision] = []
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        try:
            answers += pricer.price_detailed(part, **known)
        except RequestError:
            for row, request in enumerate(part, start=start + 1):
                try:
                    pricer.price_detailed([request], **known)
                except RequestError as error:
                    raise RequestError(f"row {row}, {request.product_id!r}: {error}") from error
            raise
    return answers


def as_frame(answered: Iterable[tuple[PriceRequest, DetailedDecision]]) -> pd.DataFrame:
    """Returns a table with one row per decision, in request order; reason codes are joined by spaces.

    Where a price waits for approval, every figure but `recommended_price` is of the one proposed.
    """
    rows = []
    for request, answer in answered:
        decision = answer.proposed or answer.decision
        waits = ("awaiting_approval",) if answer.proposed else ()
        low, high = decision.price_range
        gain = decision.expected_gain
        own = ("date", "category", "current_price", "list_price", "unit_cost", "tax_rate")
        rows.append(
            {
                **decision.model_dump(exclude={"price_range", "expected_gain"}),
                **{name: getattr(answer, name) for name in own},
                "product_id": request.product_id,
                "current_stock": request.current_stock,
                "recommended_price": answer.decision.recommended_price,
                "proposed_price": decision.recommended_price,
                "price_low": low,
                "price_high": high,
                "expected_gain": gain and gain.mean,
                "gain_low": gain and gain.low,
                "gain_high": gain and gain.high,
                "reasons": " ".join((*decision.reasons, *waits)),
                **{name: " ".join(getattr(decision, name)) for name in ("binds", "gave_way")},
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def price_lines(decisions: pd.DataFrame) -> list[str]:
    """Formats decisions (`as_frame`) as a table for people: product, price before and now, and why; a line each."""
    lines = [f"{'product':<24}{'before':>10}{'now':>10}  why"]
    codes = ("reasons", "binds", "gave_way")
    for row in decisions.fillna(dict.fromkeys(codes, "")).to_dict("records"):
        why = list(meanings(*(row[name].split() for name in codes)).values())
        if pd.notna(row["expected_gain"]):
            ends = f"{row['gain_low']:+.2f} to {row['gain_high']:+.2f}"
            why.insert(0, f"gain {row['expected_gain']:+.2f} ({ends}) until the next delivery")
        before, now = (
            "–" if pd.isna(price) else f"{price:.2f}" for price in (row["current_price"], row["recommended_price"])
        )
        lines.append(f"{row['product_id']:<24}{before:>10}{now:>10}  {'; '.join(why)}")
    return lines


def write(frame: pd.DataFrame, output: Path) -> None:
    """Writes a table atomically.

    Args:
        frame: The table.
        output: A .csv or .parquet file; its folder is created.

    Raises:
        SourceError: It cannot be written there.
    """
    try:
        with replace_atomically(output) as draft:
            if output.suffix == ".parquet":
                frame.to_parquet(draft, index=False)
            else:
                quote_formulas(frame).to_csv(draft, index=False)
    except OSError as error:
        raise SourceError(f"{output}: cannot be written ({error.strerror})") from error
