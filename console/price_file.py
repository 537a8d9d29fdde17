"""Price files: the changes of a day for another system or for a spreadsheet, read back with decisions, or sent."""

import datetime as dt
import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from console.words import moment, why
from console.worklist import APPROVED, AUTOMATIC, BY_HAND, OPEN, STILL, Worklist
from pricing.arrays import Ints
from pricing.config_models import DecisionConfig
from pricing.csv_text import quote_formulas, unquote_formulas
from pricing.data.net_price import with_tax
from pricing.decision.guardrails import PriceGrid
from pricing.decision.switches import Switches
from pricing.errors import SourceError, first_line
from pricing.fileio import replace_json
from pricing.runtime.post import post

COLUMNS = ("file", "id", "product_id", "old", "new", "from", "reason", "gain", "status", "decision", "note")
_STATUS = {OPEN: "proposed", AUTOMATIC: "approved", APPROVED: "approved", BY_HAND: "approved"}
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass
class PriceFile:
    """A file that was written: its rows, and what became of it."""

    name: str
    at: str
    by: str
    rows: list[dict[str, Any]]
    seen: int  # sequence of the last entry of the control record that it rests on
    state: str = "written"  # then exported or failed
    detail: str = ""

    @property
    def written(self) -> str:
        """When it was written."""
        return moment(dt.datetime.fromisoformat(self.at))

    @property
    def approved(self) -> list[dict[str, Any]]:
        """The rows that may be charged."""
        return [row for row in self.rows if row["status"] == "approved"]

    def frame(self) -> pd.DataFrame:
        """The file as a table; two columns are for a person to fill in."""
        frame = pd.DataFrame([{"file": self.name, **row, "decision": "", "note": ""} for row in self.rows])
        return quote_formulas(frame.reindex(columns=list(COLUMNS)))


def changes(
    table: Worklist, rows: Ints, states: Ints, *, decision: DecisionConfig, switches: Switches
) -> list[dict[str, Any]]:
    """The rows of a price file: what is proposed, and what may be charged, a price that a person gave included."""
    kinds = {name: strategy.kind for name, strategy in decision.strategies.items()}
    found, grid = [], PriceGrid(decision.price_step)
    for row in rows[np.isin(states[rows], list(_STATUS))].tolist():
        text = {name: str(values[row]) for name, values in table.text.items()}
        number = {name: float(values[row]) for name, values in table.number.items()}
        given = switches.of(text["product_id"], category=text["category"]) if states[row] == BY_HAND else None
        if states[row] == BY_HAND and (given is None or given.price is None):  # it ended a moment ago, or is a freeze
            continue
        told: dict[str, Any] = {
            "new": number["proposed_price"],
            "reason": why(int(table.bits[row]), float(table.change[row]), kinds.get(text["strategy"], "")),
            "gain": round(float(table.gain[row]), 2),
        }
        if given is not None and given.price is not None:
            floor = grid.above(np.array(with_tax(number["unit_cost"], number["tax_rate"])))
            told = {
                "new": given.price if given.below_cost else float(np.fmax(given.price, floor)),
                "reason": given.reason,
                "gain": "",
            }
        before = float(table.before[row])
        if abs(told["new"] / before - 1) > STILL:
            known = {"id": text["decision_id"], "product_id": text["product_id"], "old": before}
            found.append(known | told | {"from": text["date"][:10], "status": _STATUS[int(states[row])]})
    return found


class PriceFiles:
    """The files of a PRICING_HOME, newest first."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "console" / "files"

    def write(self, rows: list[dict[str, Any]], *, by: str, at: dt.datetime, seen: int) -> PriceFile:
        """Makes a file, and keeps what it says."""
        made = PriceFile(secrets.token_hex(8), at.isoformat(timespec="seconds"), by, rows, seen)
        self.keep(made)
        return made

    def keep(self, file: PriceFile) -> None:
        """Writes down what became of a file."""
        replace_json(self._folder / f"{file.name}.json", asdict(file))

    def find(self, name: str) -> PriceFile:
        """A file by its name; raises SourceError where we never wrote it."""
        place = self._folder / f"{name}.json"
        if not _NAME.fullmatch(name) or not place.is_file():
            raise SourceError("this is no price file that was written here: only such a file is read back")
        return PriceFile(**json.loads(place.read_text(encoding="utf-8")))

    def newest(self, most: int = 20) -> list[PriceFile]:
        """The newest files."""
        places = sorted(self._folder.glob("*.json"), key=lambda place: place.stat().st_mtime, reverse=True)
        return [self.find(place.stem) for place in places[:most]]

    def read_back(self, content: bytes, *, excel: bool) -> tuple[PriceFile, dict[str, tuple[str, str]]]:
        """Reads decisions from a file that a person filled in: product → its word and note.

        Raises:
            SourceError: It is no file that we wrote, or its rows were changed.
        """
        try:
            reader = _excel_reader if excel else pd.read_csv
            frame = unquote_formulas(reader(io.BytesIO(content), dtype=str, keep_default_na=False))
            names = set(frame["file"]) if len(frame) else {""}
            sent = frame[["id", "product_id", "new", "decision", "note"]].to_dict(orient="records")
        except (KeyError, ValueError, OSError) as error:
            raise SourceError(f"this is no price file that was written here ({first_line(error)})") from error
        file = self.find(str(names.pop()) if len(names) == 1 else "")
        known = {row["id"]: row for row in file.rows}
        decided: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(sent, start=2):
            ours = known.get(row["id"])
            if ours is None or ours["product_id"] != row["product_id"] or _differs(row["new"], ours["new"]):
                raise SourceError(f"line {number}: is no row of this file as it was written; fill in `decision` alone")
            if word := row["decision"].strip().lower():
                if word not in ("approve", "reject"):
                    raise SourceError(f"line {number}: expected approve or reject as the decision, found {word[:40]!r}")
                decided[row["product_id"]] = word, row["note"].strip()
        return file, decided


def as_csv(file: PriceFile) -> bytes:
    """The file as CSV."""
    return file.frame().to_csv(index=False).encode()


def as_excel(file: PriceFile) -> bytes:
    """The file as a workbook; raises SourceError where openpyxl is not installed."""
    content = io.BytesIO()
    _need_openpyxl()
    file.frame().to_excel(content, index=False, engine="openpyxl")
    return content.getvalue()


def _excel_reader(content: io.BytesIO, **options: Any) -> pd.DataFrame:
    _need_openpyxl()
    frame: pd.DataFrame = pd.read_excel(content, engine="openpyxl", **options)
    return frame


def _need_openpyxl() -> None:
    try:
        import openpyxl  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: F401, PLC0415
    except ImportError as error:
        raise SourceError(
            "Excel needs openpyxl, which is not installed: pip install pricing[excel], or take CSV"
        ) from error


def send(file: PriceFile, url: str) -> None:
    """Sends the approved prices; the other side may see a file twice, by its name.

    Raises:
        DeliveryError: It was not taken.
    """
    prices: Sequence[Mapping[str, Any]] = [
        {"product_id": row["product_id"], "price": row["new"], "from": row["from"]} for row in file.approved
    ]
    post(url, {"file": file.name, "prices": prices}, what="the price file")


def _differs(text: str, price: float) -> bool:
    try:
        return abs(float(text.replace(",", ".")) - price) > 1e-9 * price
    except ValueError:
        return True
