"""Describe versions and sales for people: plots, pages and cards. None of them may cost a version."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2

from pricing.paths import page_css
from pricing.quoting import escape_markdown

_log = logging.getLogger(__name__)


def render(template: str, **context: object) -> str:
    """Renders a template of this folder: HTML escapes what it is given, Markdown where it says `| md`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=".html" in template,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escape_markdown
    environment.globals["page_css"] = page_css()
    return environment.get_template(template).render(**context)


@contextmanager
def dispensable(artifact: str) -> Iterator[None]:
    """Lets an artifact fail without its run: the traceback is logged, and a line says what is missing."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever breaks a picture of a version, its training took minutes to hours
        _log.exception("%s could not be made", artifact)
        print(f"warning: {artifact} could not be made, and the run goes on without; the log says why", flush=True)
