import os
import sys

import pytest

from pipelines.quiet import _unsaid


def test_what_a_library_says_while_it_is_imported_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    with _unsaid():
        os.write(2, b"GPU will not be used\n")
        print("nor this", file=sys.stderr)
    print("but this", file=sys.stderr)

    assert capfd.readouterr().err == "but this\n"


def test_what_a_failing_import_said_comes_out_after_all(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), _unsaid():
        os.write(2, b"GLIBC is too old\n")
        raise ImportError("libtensorflow.so")

    assert "GLIBC is too old" in capfd.readouterr().err
