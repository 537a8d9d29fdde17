"""Text in CSV files that people open in a spreadsheet: what would run there as a formula is quoted, and read back."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# A cell that begins so is a formula to Excel, LibreOffice and Google Sheets (OWASP, CSV injection).
_FORMULA = r"^('*[=+\-@\t\r])"
_QUOTED = r"^'('*[=+\-@\t\r])"


def quote_formulas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Puts a quote before each text that a spreadsheet would take for a formula; numbers stay as they are.

    Example:
        >>> import pandas as pd
        >>> from pricing.csv_text import quote_formulas
        >>> quote_formulas(pd.DataFrame({"product_id": ["=1+1", "P1"], "move": [-0.5, 0.5]}))["product_id"].tolist()
        ["'=1+1", 'P1']
    """
    return _replaced(frame, _FORMULA, r"'\1")


def unquote_formulas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Takes away what `quote_formulas` put there."""
    return _replaced(frame, _QUOTED, r"\1")


def _replaced(frame: "pd.DataFrame", pattern: str, by: str) -> "pd.DataFrame":
    texts = [name for name in frame.columns if not _is_number(frame[name])]
    changed = {name: frame[name].astype(object).replace(pattern, by, regex=True) for name in texts}
    found = frame.assign(**changed)
    found.attrs = frame.attrs
    return found


def _is_number(column: "pd.Series") -> bool:
    return bool(column.dtype.kind in "biufcmM")
