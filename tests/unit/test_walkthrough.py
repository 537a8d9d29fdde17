"""The recorded walkthrough shows what its recorder would run today."""

import re

from benchmarks.walkthrough import HEAD, PAGE, steps


def test_the_walkthrough_shows_the_commands_that_its_recorder_runs() -> None:
    page = PAGE.read_text(encoding="utf-8")

    shown = [words for words in re.findall(r"^\$ (.*)$", page, re.MULTILINE) if words != "echo $?"]

    assert shown == [step.shown for step in steps()]
    assert page.startswith(HEAD.partition("{settings}")[0])
