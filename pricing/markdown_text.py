"""Names that come from a shop's data, in Markdown that people and MLflow's pages show: nothing in them is markup."""

import html
import re

# An underscore inside a word is none (CommonMark 0.31, 6.2); what follows a bracket needs none itself.
_MARKUP = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])|^#")


def escape_markdown(text: str) -> str:
    r"""Escapes a text so that it is shown as it is, in a sentence or in a table's cell.

    Example:
        >>> from pricing.markdown_text import escape_markdown
        >>> print(escape_markdown("a|b <img src=x>"))
        a\|b &lt;img src=x&gt;
    """
    line = " ".join(text.splitlines())  # a line's end would end the row
    return _MARKUP.sub(r"\\\g<0>", html.escape(line, quote=False))
