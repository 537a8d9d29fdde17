"""Texts of a shop's data where they would be more than text: CSV in a spreadsheet, Markdown in MLflow's pages."""

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# A cell that begins so is a formula to Excel, LibreOffice and Google Sheets (OWASP, CSV injection).
_FORMULA = r"^('*[=+\-@\t\r])"
_QUOTED = r"^'('*[=+\-@\t\r])"
# An underscore inside a word is none (CommonMark 0.31, 6.2); what follows a bracket needs none itself.
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])|^#")


def quote_formulas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Puts a quote before each text that a spreadsheet would take for a formula; numbers stay as they are.

    Example:
        >>> import pandas as pd
        >>> from pricing.quoting import quote_formulas
        >>> quote_formulas(pd.DataFrame({"product_id": ["=1+1", "P1"], "move": [-0.5, 0.5]}))["product_id"].tolist()
        ["'=1+1", 'P1']
    """
    return _replaced(frame, _FORMULA, r"'\1")


def unquote_formulas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Takes away what `quote_formulas` put there."""
    return _replaced(frame, _QUOTED, r"\1")


def _replaced(frame: "pd.DataFrame", pattern: str, by: str) -> "pd.DataFrame":
    if not frame.columns.is_unique:  # which the contract refuses
        return frame
    texts = [name for name in frame.columns if frame[name].dtype.kind not in "biufcmM"]
    changed = {name: frame[name].astype(object).replace(pattern, by, regex=True) for name in texts}
    found = frame.assign(**changed)
    found.attrs = frame.attrs
    return found


def printable(text: str) -> str:
    r"""Escapes what a terminal would obey or hide: control characters, marks of direction, ends of lines.

    Example:
        >>> from pricing.quoting import printable
        >>> print(printable("tea \x1b[2J\u202e"))
        tea \x1b[2J\u202e
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def escape_markdown(text: str) -> str:
    r"""Escapes a text so that it is shown as it is, in a sentence or in a table's cell.

    Example:
        >>> from pricing.quoting import escape_markdown
        >>> print(escape_markdown("a|b <img src=x>"))
        a\|b &lt;img src=x&gt;
    """
    line = " ".join(text.splitlines())  # a line's end would end the row
    return _MARKUP.sub(r"\\\g<0>", html.escape(line, quote=False))
