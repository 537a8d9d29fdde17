"""How the service's scaling policies follow a burst: `python -m benchmarks.autoscaling`, in seconds; needs no AWS.

Lets the model of `deploy.autoscaling_model` follow bursts with the policies of production, and writes
benchmarks/autoscaling.md. What one task answers a second (`--saturation`) and how long it takes from the decision to
its first request (`--start`) are measured elsewhere and given here.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.provenance import stamp, take
from deploy.autoscaling_model import Outcome, burst, follow
from deploy.environment import Jump, ServingPart, read_environments

PAGE = "autoscaling.md"
MEASURED = "burst.json"
LOW = 0.2  # of what one task answers
QUIET, LATER = 1_200, 3_600  # seconds before and after a burst
HOLDS = (60, 300, 900)  # seconds
FACTORS = (2, 3, 5, 10)


def outcome(part: ServingPart, low: float, options: argparse.Namespace, *, factor: float, hold: int) -> Outcome:
    """What becomes of a burst from `low` requests a second."""
    load = burst(low, factor=factor, before=QUIET, hold=hold, after=LATER)
    return follow(
        load,
        part,
        start_seconds=options.start,
        metric_delay=options.metric_delay,
        refusal_cost=options.refusal_cost,
    )


def cells(found: Outcome, *, factor: float, low: float, hold: int) -> str:
    """Refused requests, as a share of those of the burst; seconds; tasks."""
    of_burst = factor * low * hold
    return f"{found.refused / of_burst:.0%} | {found.seconds_over} | {max(found.tasks)}"


def by_least(part: ServingPart, options: argparse.Namespace) -> Iterator[str]:
    """Ten times a fifth of one task's load, on one to four tasks."""
    yield "| tasks that always run | burst, min | refused, of the burst | seconds over capacity | most tasks |"
    yield "|---|---|---|---|---|"
    low = LOW * part.saturation
    for least in (1, 2, 3, 4):
        for hold in HOLDS:
            found = outcome(with_(part, least=least), low, options, factor=10, hold=hold)
            yield f"| {least} | {hold // 60} | {cells(found, factor=10, low=low, hold=hold)} |"


def at_target(part: ServingPart, options: argparse.Namespace) -> Iterator[str]:
    """Four tasks at their target, and a burst of fifteen minutes."""
    yield "| times the load | refused, of the burst | seconds over capacity | most tasks |"
    yield "|---|---|---|---|"
    low, hold = 4 * part.target_share * part.saturation, 900
    for factor in FACTORS:
        found = outcome(with_(part, least=4, most=60), low, options, factor=factor, hold=hold)
        yield f"| {factor} | {cells(found, factor=factor, low=low, hold=hold)} |"


def by_policy(part: ServingPart, options: argparse.Namespace) -> Iterator[str]:
    """Four tasks at their target and three times the load for fifteen minutes, by other policies."""
    yield "| policies | refused, of the burst | seconds over capacity | most tasks |"
    yield "|---|---|---|---|"
    never = [Jump(above=20, add=10)]
    low, hold, factor = 4 * part.target_share * part.saturation, 900, 3
    # So that every one begins with the same tasks and the same load.
    for name, change in {
        "as configured": {},
        "no jumps: target tracking alone": {"jumps": never},
        "one jump: at 1.5 times the target, 100 %": {"jumps": [Jump(above=1.5, add=100)]},
        "a jump may follow after 60 s": {"jump_seconds": 60},
        "tasks kept at 70 % of what they answer": {"target_share": 0.7, "cpu_target": 70},
        "tasks kept at 30 %": {"target_share": 0.3, "cpu_target": 30},
    }.items():
        other = with_(part, least=4, most=60, **change)
        start = 4 * other.target_share * other.saturation
        found = outcome(other, start, options, factor=factor, hold=hold)
        yield f"| {name} | {cells(found, factor=factor, low=start, hold=hold)} |"
    for name, delay, seconds in (
        ("figures without delay", 0, options.start),
        ("figures two minutes late", 120, options.start),
        ("tasks start in 15 s", options.metric_delay, 15),
        ("tasks start in 180 s", options.metric_delay, 180),
    ):
        changed = argparse.Namespace(**{**vars(options), "metric_delay": delay, "start": seconds})
        found = outcome(with_(part, least=4, most=60), low, changed, factor=factor, hold=hold)
        yield f"| as configured; {name} | {cells(found, factor=factor, low=low, hold=hold)} |"


def beside_measurement(part: ServingPart, options: argparse.Namespace) -> Iterator[str]:
    """What the model says of the bursts that `benchmarks.burst` measured on containers: no task starts in them."""
    measured = json.loads((Path(__file__).parent / MEASURED).read_text(encoding="utf-8"))
    saturation = measured["saturation"]["rate"]
    yield "| tasks | requests of the burst | priced, measured | priced, by the model | difference |"
    yield "|---|---|---|---|---|"
    for each in measured["bursts"]:
        tasks, load = each["tasks"], [float(second[0]) for second in each["seconds"]]
        fixed = with_(part, least=tasks, most=tasks, saturation=saturation)
        found = follow(load, fixed, start_seconds=options.start, refusal_cost=options.refusal_cost)
        priced = sum(phase["requests"] - phase["refusals"] for phase in each["phases"])
        off = found.answered / priced - 1
        yield f"| {tasks} | {sum(load):,.0f} | {priced:,} | {found.answered:,.0f} | {off:+.1%} |"


def with_(part: ServingPart, **changes: object) -> ServingPart:
    """The service with other values, checked; at least as many tasks at most as at least."""
    values = {**dict(part), "windows": [], **changes}
    return ServingPart.model_validate({**values, "most": max(int(str(values["most"])), int(str(values["least"])))})


def page(part: ServingPart, options: argparse.Namespace) -> str:
    """The page, without the lines that say which code made it."""
    low = LOW * part.saturation
    one, two = (outcome(with_(part, least=least), low, options, factor=10, hold=300) for least in (1, 2))
    jumps = ", ".join(f"{jump.above:g} times: {jump.add} %" for jump in part.jumps)
    shares = [found.refused / (10 * low * 300) for found in (one, two)]
    parts = [
        "# How the service grows with load",
        "**Ten times a fifth of what one task answers, reached within 10 s and kept for five minutes: one task "
        f"refuses {shares[0]:.0%} of it, all within {one.seconds_over} s; two refuse {shares[1]:.0%}, and work at "
        f"their limit until others come.** Production therefore keeps {part.least} tasks, and more in the day's hours "
        "(`windows`).\nNo policy answers a burst before its figures are known and its tasks have started: what must "
        "not be refused has to run already.",
        "These are figures of a model (`deploy/autoscaling_model.py`, whose assumptions stand at its top), not of AWS. "
        f"A task answers {part.saturation:g} requests a second\n(`--saturation`) and takes {options.start} s from the "
        "decision to its first request (`--start`); CloudWatch's figures of a minute come "
        f"{options.metric_delay} s after it (`--metric_delay`,\nan assumption); a refusal costs "
        f"{options.refusal_cost:g} of an answer (`--refusal_cost`). Shares depend on multiples of what a task answers "
        "alone, so that another machine changes\nthem little. Policies are those of production in "
        f"`deploy/environments.yaml`: tasks are kept at {part.target_share:.0%} of what they answer and at "
        f"{part.cpu_target} % of CPU; jumps\nadd tasks at multiples of that target ({jumps}), {part.jump_seconds} s "
        "apart.",
        f"## Ten times {LOW:.0%} of what one task answers, within 10 s and back",
        "\n".join(by_least(part, options)),
        "## Beside a measurement",
        "Bursts that `benchmarks.burst` sent to containers ([burst.md](burst.md)), second by second, and what the "
        "model makes of the same seconds with\nthe saturation of one task that was measured there.",
        "\n".join(beside_measurement(part, options)),
        "## Four tasks at their target, and a burst of fifteen minutes",
        "\n".join(at_target(part, options)),
        "## Three times the load of four tasks at their target, by policies and times",
        "\n".join(by_policy(part, options)),
        "A jump that may follow after 60 s answers the same minute twice: its first tasks have not started, and "
        "figures of the minute before are still on their way. Pause and delay of the figures belong together.",
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saturation", type=float, help="requests a second of one task; absent: production's")
    parser.add_argument("--start", type=int, default=45, help="seconds from the decision to the first request")
    parser.add_argument("--metric_delay", type=int, default=60, help="seconds from a minute's end to its figures")
    parser.add_argument("--refusal_cost", type=float, default=0.1, help="of a refusal, as a share of an answer")
    options = parser.parse_args(argv)
    taken = take(PAGE)
    part = read_environments()["production"].serving
    if options.saturation:
        part = with_(part, saturation=options.saturation)
    path = Path(__file__).parent / PAGE
    path.write_text(page(part, options), encoding="utf-8")
    stamp(path, taken)
    return 0


if __name__ == "__main__":
    sys.exit(main())
