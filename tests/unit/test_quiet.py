import os

import pytest

from pipelines.quiet import _unsaid


def test_what_a_library_says_while_it_is_imported_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    with _unsaid():
        os.write(2, b"GPU will not be used\n")
    os.write(2, b"but this\n")

    assert capfd.readouterr().err == "but this\n"
