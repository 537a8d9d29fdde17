"""Which of a table's columns are read under which name, and what their cells are: numbers, times, flags or texts."""

from collections.abc import Sequence
from typing import Literal

from pricing.config_sources import TableSource
from pricing.errors import SourceError, nearest

Kind = Literal["number", "time", "flag", "id", "text"]
UPDATED = "updated"  # our name of the column that `TableSource.updated` names
_KINDS: dict[Kind, tuple[str, ...]] = {
    "number": (
        *("quantity", "unit_price", "amount", "tax_rate", "units_sold", "price", "list_price", "unit_cost", "stock"),
        *("comp_price", "comp_price_age", "pack_size", "delivery_cost"),
    ),
    "time": (
        *("time", "returned_time", "date", "last_date", "first", "last", "valid_from", "valid_until", "next_delivery"),
        *("observed_at", UPDATED),
    ),
    "flag": ("is_promo", "is_holiday"),
    "id": ("product_id", "former_id", "line_id", "item_id", "ean", "store"),
}


def kind_of(name: str) -> Kind:
    """What the cells of one of our columns are; `text` where nothing else is known."""
    return next((kind for kind, names in _KINDS.items() if name in names), "text")


def theirs(source: TableSource, name: str) -> str:
    """The name that one of our columns has in their table."""
    return source.updated or UPDATED if name == UPDATED else source.columns.get(name, name)


def lacking(source: TableSource, header: Sequence[str]) -> list[str]:
    """Our names of columns that must be there and are not."""
    must = [name for name in source.NEEDED if name not in source.constants]
    must += [name for name in source.columns if name not in must]
    must += [UPDATED] if source.updated else []
    return [name for name in must if theirs(source, name) not in header]


def resolve(source: TableSource, header: Sequence[str], *, where: str) -> dict[str, int]:
    """Finds the columns to read: our name to position in the header.

    Args:
        source: What is configured.
        header: Their names, without blanks around them.
        where: The file, table or query, for messages.

    Raises:
        SourceError: A column that must be there is not, or its name stands twice in the header.
    """
    absent = lacking(source, header)
    if absent:
        faults = []
        for name in absent:
            wanted = theirs(source, name)
            near = nearest(wanted, header)
            called = f" ({name})" if wanted != name else ""
            faults.append(f"{wanted!r}{called}" + (f", did you mean {near!r}?" if near else ""))
        raise SourceError(
            f"{where}: has no column {'; none '.join(faults)}; found {', '.join(map(repr, header)) or 'none'}; "
            "name theirs under columns:, or give a value under constants:"
        )
    found = {}
    for name in (*source.NEEDED, *source.OPTIONAL, *([UPDATED] if source.updated else [])):
        wanted = theirs(source, name)
        if name in source.constants or wanted not in header:
            continue
        if header.count(wanted) > 1:
            raise SourceError(f"{where}: has {header.count(wanted)} columns {wanted!r}; rename all but one")
        found[name] = header.index(wanted)
    return found


def check_settings(source: TableSource, *, where: str) -> None:
    """Checks what the model of the configuration cannot: that factors belong to numbers.

    Raises:
        SourceError: They do not.
    """
    for name in source.factors:
        if kind_of(name) != "number":
            raise SourceError(f"{where}: factors: {name} is no number, and cannot be multiplied")
