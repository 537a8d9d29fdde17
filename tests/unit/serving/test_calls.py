"""How much of the project answers one /get_price: a ceiling that only falls."""

import sys
import threading
from pathlib import Path
from types import FrameType

from tests.kit.serving import open_app
from tests.kit.versions import shared_version

ROOT = Path(__file__).parents[3]
MOST_FILES = 15  # of the project with a function called, for a price by the model that is logged
MOST_OF_SERVING = 4


def test_few_files_answer_a_price(tmp_path: Path) -> None:
    found: set[Path] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found.add(Path(frame.f_code.co_filename))

    with open_app(tmp_path, version=shared_version()) as shop:
        threading.setprofile(note)  # for the thread that prices, which the first request starts
        try:
            shop.price()
            found.clear()
            sys.setprofile(note)
            answer = shop.price()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    programs = [path.relative_to(ROOT).parts[0] for path in found if path.is_relative_to(ROOT)]
    assert answer.get_json()["source"] == "model"
    assert programs.count("pricing") + programs.count("serving") <= MOST_FILES
    assert programs.count("serving") == MOST_OF_SERVING
