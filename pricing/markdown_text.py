"""Names that come from a shop's data, in Markdown that people and MLflow's pages show: nothing in them is markup."""

import html

_MARKUP = frozenset("\\`*_[]()|#!~$")


def escape_markdown(text: str) -> str:
    r"""Escapes a text so that it is shown as it is, in a sentence or in a table's cell.

    Example:
        >>> from pricing.markdown_text import escape_markdown
        >>> print(escape_markdown("a|b <img src=x>"))
        a\|b &lt;img src=x&gt;
    """
    line = " ".join(text.splitlines())  # a line's end would end the row
    return "".join(f"\\{sign}" if sign in _MARKUP else sign for sign in html.escape(line, quote=False))
