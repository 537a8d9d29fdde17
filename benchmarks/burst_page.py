"""The page of the burst benchmark, from its results."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

GENERATOR_MOST = 0.7  # share of a processor above which the generator itself may be what is slow
QUOTA_LEAST = 0.9  # share of its own processor that an overloaded task must have got, or the machine was too busy
SOON_MS = 1000.0
FOLLOW_SECONDS = 60.0
OUTAGES = {
    "mlflow": "MLflow hangs",
    "postgres": "PostgreSQL hangs",
    "s3": "S3 hangs, and a version is promoted meanwhile",
}
EVENTS = {
    "promotion": "`pricing promote` to version 2",
    "rollback": "`pricing rollback` to version 1",
    "damaged": "a damaged version made champion",
    **OUTAGES,
    "killed": "a task killed amid a promotion, and replaced",
}
LIMITS = (
    "- A processor here is not one of the cloud: measure there before `deploy/environments.yaml` names a `saturation`.",
    "- No TLS, load balancer or firewall: the generator hands requests to the tasks in turn.",
)


def report(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    return "\n".join(
        [
            "# A burst, and what fails around it",
            "",
            *_machine(results),
            "",
            *_saturation(results["saturation"], limit=results["limit_ms"]),
            "",
            *(line for found in results["bursts"] for line in _burst(found)),
            *_failures(results["failures"]),
            "",
            "## What was not met, and why",
            "",
            *_not_met(results),
            "",
        ]
    )


def _machine(results: dict[str, Any]) -> list[str]:
    machine, load = results["machine"], results["load_average"]
    pins = machine["pins"]
    reserved = (
        "their half processor is reserved (their control group goes before other work)"
        if machine["reserved"]
        else "other work on that processor takes from them"
    )
    every = [*results["saturation"]["steps"], *results["bursts"]]
    busy, late = max(one["generator"] for one in every), max(one["late_ms"] for one in every)
    return [
        *_text(
            "`python -m benchmarks.burst` starts PostgreSQL, S3 (SeaweedFS), an MLflow server on both, and tasks of "
            "the serving image in containers of 0.5 processors and 1 GB with empty disks, sends them requests with an "
            f"API key, and removes all of it again. It needs Docker and 3 GB of disk, and took {results['seconds']} s, "
            "images that were built before apart."
        ),
        "",
        *_text(
            "**The load is open.** A request leaves when it is due, whether or not others have been answered, and its "
            "time counts from when it was *due*: no coordinated omission. Percentiles are of prices (200) unless they "
            "say otherwise."
        ),
        "",
        *_text(
            f"Python {machine['python']}, {machine['processors']} processors, load average {load['begin']} at the "
            f"begin and {load['end']} at the end, {results['products']} products. Tasks are pinned to processor "
            f"{pins['tasks']}, and {reserved}; the generator, MLflow, PostgreSQL, S3 and jobs share processor "
            f"{pins['others']}. The generator took {busy:.0%} of one at most, and 99 of 100 requests left {late:.0f} "
            "ms late at most."
        ),
    ]


def _saturation(found: dict[str, Any], *, limit: float) -> list[str]:
    over = found["overloaded"]
    return [
        "## One task's saturation",
        "",
        *_text(
            f"**{found['rate']} requests a second**: the highest rate at which p99 stays below {limit:g} ms and "
            f"nothing is refused, by bisection in steps of {found['seconds']:g} s. Overloaded with {over['rate']:.0f} "
            f"a second, it gives {over['answered']:.0f} prices a second."
        ),
        "",
        *_table(
            ["offered, /s", "priced, /s", "p50 ms", "p99 ms", "refused", "of its half processor", "late, ms", "kept"],
            (
                [
                    *(f"{one['rate']:.0f}", f"{one['answered']:.0f}", _ms(one["p50_ms"]), _ms(one["p99_ms"])),
                    *(one["refused"], f"{one['processor']:.0%}", _ms(one["late_ms"]), "yes" if one["kept"] else "no"),
                ]
                for one in sorted(found["steps"], key=lambda one: float(one["rate"]))
            ),
        ),
    ]


def _burst(found: dict[str, Any]) -> list[str]:
    several, first = found["tasks"] > 1, found["first_refused"]
    title = "two tasks in turn, what both take" if several else "one task, twice what it takes"
    columns = ["", "offered, /s", "priced, /s", "p50 ms", "p95 ms", "p99 ms", "most ms", "429, /s"]
    columns += ["p50, p99, most ms of a 429", "5xx, lost", "of its half processor"]
    seconds = ["second", "offered", "priced", "p50 ms", "p99 ms", "429", "p99 ms of a 429"]
    return [
        f"## A tenfold burst on {title}",
        "",
        *_table(
            columns,
            (
                [
                    f"{one['phase']}, {one['end'] - one['begin']:.0f} s",
                    *(f"{one['offered']:.0f}", f"{one['priced']:.0f}"),
                    *(_ms(one[f"p{share}_ms"]) for share in (50, 95, 99, 100)),
                    f"{one['refused']:.0f}",
                    ", ".join(_ms(one[f"refused_p{share}_ms"]) for share in (50, 99, 100)),
                    f"{one['errors']}, {one['lost']}",
                    f"{one['processor']:.0%}",
                ]
                for one in found["phases"]
            ),
        ),
        "",
        "No request was refused." if first is None else f"The first one that was refused was due after {first:.1f} s.",
        "",
        *_table(
            seconds,
            (
                [at, row[0], row[1], _ms(row[2]), _ms(row[3]), row[4], _ms(row[5])]
                for at, row in enumerate(found["seconds"])
                if _shown(at, found["phases"])
            ),
        ),
        "",
    ]


def _shown(at: int, phases: Sequence[dict[str, Any]]) -> bool:
    """Every second while the load changes and just after; else every fourth."""
    rise, after = phases[1], phases[3]
    return rise["begin"] <= at < rise["end"] + 3 or after["begin"] - 1 <= at < after["begin"] + 3 or at % 4 == 0


def _failures(found: dict[str, Any]) -> list[str]:
    columns = ["what", "requests", "5xx", "lost", "other than 200", "p99 ms", "most ms", "by version", "by source"]
    return [
        f"## Failures, under {found['rate']:g} requests a second on two tasks",
        "",
        *_table(columns, ([words, *_became(found[name])] for name, words in EVENTS.items())),
        "",
        *_text(
            "- **Promotion and rollback.** "
            + " ".join(
                f"`pricing {job}` took {found[name]['job_seconds']} s and moved the alias after "
                f"{found[name]['moved_seconds']} s; {found[name]['followed_seconds']} s after that came the last price "
                "by the version before."
                for job, name in (("promote", "promotion"), ("rollback", "rollback"))
            )
        ),
        *_damaged(found["damaged"]),
        *(line for name in OUTAGES for line in _outage(name, found[name], seconds=found["cut_seconds"])),
        *_killed(found["killed"]),
    ]


def _became(one: dict[str, Any]) -> list[object]:
    return [
        *(one["requests"], one["errors"], one["lost"], one["refusals"] + one["others"]),
        *(_ms(one["p99_ms"]), _ms(one["p100_ms"]), _counts(one["by_version"]), _counts(one["by_source"])),
    ]


def _damaged(one: dict[str, Any]) -> list[str]:
    return _text(
        f"- **A damaged version.** One bit of each of its arrays was altered in S3. `pricing promote --force` ended "
        f"with exit code {one['job_exit_code']}; then the alias was moved by hand, past every gate. "
        f"{one['refused_seconds']} s later every task refused it (`/model`: state `refused`, `{one['told']}`) and "
        f"stayed ready (`/health/ready`: {', '.join(map(str, one['ready']))}). **{one['prices_from_it']} prices came "
        f"from it.** With the alias back, all followed after {one['back_seconds']} s."
    )


def _outage(name: str, one: dict[str, Any], *, seconds: float) -> list[str]:
    during, states = one["during"], ", ".join(f"`{state}`" for state in one["states"])
    bad = sum(during[kind] for kind in ("errors", "lost", "others", "refusals"))
    return _text(
        f"- **{OUTAGES[name]}, {seconds:g} s** (the container is halted: connections stay open, nothing answers). "
        f"{bad or 'No'} answer{'' if bad == 1 else 's'} other than 200; sources {_counts(during['by_source'])}; "
        f"versions {_counts(during['by_version'])}; followers said {states}. "
        f"{one['recovered_seconds']} s after it went on, all followed."
    )


def _killed(one: dict[str, Any]) -> list[str]:
    tasks = "; ".join(f"{name} {_counts(versions)}" for name, versions in one["by_task"].items())
    return _text(
        f"- **A task killed** (SIGKILL) once the alias had moved. Requests lost: {one['lost_in_flight']} under way, "
        f"{one['lost_later']} later; {one['sent_on']} that could not connect went to the other task, until "
        "the generator took the dead one out after 5 s, as a balancer's health check would. The replacement, with an "
        f"empty disk, gave its first price by the new version {one['replaced_seconds']} s after the kill. The last "
        f"price by the version before came {one['last_old_seconds']} s after it. Prices by task and version: {tasks}."
    )


def _not_met(results: dict[str, Any]) -> list[str]:
    """What the figures do not reach, or what makes them doubtful."""
    failures = results["failures"]
    every = [*results["saturation"]["steps"], *results["bursts"]]
    busy = max(one["generator"] for one in every)
    found = [line for burst in results["bursts"] for line in _burst_not_met(burst, limit=results["limit_ms"])]
    if busy > GENERATOR_MOST:
        found.append(f"The generator took {busy:.0%} of a processor: latencies may be its own.")
    if failures["killed"]["lost_in_flight"]:
        found.append("A killed task takes the requests under way with it: their callers must send them again.")
    rollback = failures["rollback"]["moved_seconds"] + failures["rollback"]["followed_seconds"]
    if rollback > FOLLOW_SECONDS:
        found.append(
            f"From its start the rollback took {rollback:.0f} s to reach every task, above {FOLLOW_SECONDS:g}."
        )
    if failures["damaged"]["prices_from_it"]:
        found.append(f"{failures['damaged']['prices_from_it']} prices came from a damaged version.")
    for name, words in OUTAGES.items():
        during = failures[name]["during"]
        if during["errors"] or during["lost"]:
            found.append(f"While {words}: {during['errors']} answers 5xx, {during['lost']} requests without one.")
    lines = found or ["Nothing: every target is met."]
    return [line for one in lines for line in _text(f"- {one}")] + list(LIMITS)


def _burst_not_met(burst: dict[str, Any], *, limit: float) -> list[str]:
    held, several = burst["phases"][2], burst["tasks"] > 1
    name = "With two tasks" if several else "With one task"
    errors, lost = (sum(one[kind] for one in burst["phases"]) for kind in ("errors", "lost"))
    found = []
    if errors or lost:
        found.append(f"{name} {errors} answers were 5xx, and {lost} requests had none.")
    if held["refused"] and held["processor"] < QUOTA_LEAST:
        found.append(
            f"{name}, overloaded, each got {held['processor']:.0%} of its half processor: the machine was busy with "
            "other work, and more would have been priced on one of its own."
        )
    if (held["refused_p100_ms"] or 0.0) > SOON_MS:
        found.append(f"{name} the slowest 429 took {held['refused_p100_ms']:.0f} ms, above {SOON_MS:.0f}.")
    if held["refused"] and (held["p99_ms"] or 0.0) > limit:
        found.append(
            f"{name} p99 of what was priced in the burst is {held['p99_ms']:.0f} ms, above {limit:g}: a request may "
            "wait `serving.queue_seconds` (0.5 s) before others are refused. Less waiting would be more refusals."
        )
    if several and held["refused"]:
        found.append(
            f"{name} {held['refused'] / held['offered']:.0%} was refused in the burst, though both together take as "
            "much: each worker process has a queue of its own and gets what the kernel gives it of the connections, "
            "and to refuse costs processor time, too."
        )
    return found


def _text(words: str) -> list[str]:
    """A paragraph, or a point of a list, in lines."""
    return textwrap.wrap(words, 140, break_long_words=False, break_on_hyphens=False)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in found.items()) or "none"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
