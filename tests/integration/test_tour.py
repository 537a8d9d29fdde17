"""The console's pages as files: every link leads to one of them, and each page says what it is."""

import html
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.kit.servers import free_port

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("wget") is None, reason="needs wget")
def test_every_link_of_the_tour_leads_to_a_page_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))

    subprocess.run(["bash", ROOT / "tools" / "tour.sh", tmp_path / "tour"], check=True)

    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "tour").rglob("*.html")}
    links = {
        (path, html.unescape(link)) for path, text in pages.items() for link in re.findall('(?:href|src)="(.+?)"', text)
    }
    named = [(path, unquote(link.partition("#")[0])) for path, link in links]
    assert len(pages) > 130
    assert [(path.name, link) for path, link in named if not (path.parent / link).exists()] == []
    assert [path.name for path, text in pages.items() if "127.0.0.1" in text or 'action="' in text] == []
    assert [path.name for path, text in pages.items() if text.count('class="simulated"') != 2] == []
