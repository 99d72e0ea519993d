"""The results as a table, and beside each what was promised."""

from __future__ import annotations

from typing import Any

MIB = 2**20


def duration(seconds: float) -> str:
    """
    >>> duration(0.0012), duration(0.25), duration(2.5)
    ('1.2 ms', '250 ms', '2.5 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.02 else f"{seconds * 1e3:.0f} ms"


def promises(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What, how much it is, and how much it may be at most."""
    median = {name: one["median"] for name, one in results["seconds"].items()}
    warm, hit = median["warm: 1 + 1 in a session"], median["fresh box from the pool, and 1 + 1"]
    rate = results["per second"]
    engine = rate["create, start, remove by the engine alone"]
    tasks = list(results["seconds per task"].values())
    return [
        ("warm round trip, of docker exec", warm / median["docker exec"], 1 / 60),
        ("warm round trip, of the host's ipykernel", warm / median["ipykernel on the host"], 1 / 5),
        ("warm round trip, of the limit", warm / median["the limit: a bare pipe round trip, and run_cell"], 2.5),
        ("pool hit, of docker run --rm", hit / median["docker run --rm"], 1 / 60),
        ("other limits, of docker run --rm", median["the same with other limits"] / median["docker run --rm"], 1 / 8),
        (
            "cold, of docker run --rm with the same walls",
            median["fresh box, cold, and 1 + 1"] / median["docker run --rm with the walls of a box"],
            1.5,
        ),
        ("the engine's own rate, of fresh sandboxes", engine / rate["fresh sandboxes, each with a run"], 1 / 0.9),
        ("the engine's own rate, of reset boxes", engine / rate["runs in boxes that are reset in between"], 1 / 20),
        ("PSS of an idle box, of 32 MiB", sum(results["bytes"]["one box"].values()) / (32 * MIB), 1.0),
        ("dearest task of 10 to 500, of the cheapest", max(tasks) / min(tasks), 1.1),
        ("Sandbox.list() with 100 boxes, of 0.2 s", results["listing"]["Sandbox.list() with 100 boxes"] / 0.2, 1.0),
    ]


def ratio(value: float) -> str:
    """
    >>> ratio(0.01), ratio(1.5)
    ('1/100', '1.50')
    """
    return f"1/{1 / value:.0f}" if value < 0.5 else f"{value:.2f}"


def markdown(results: dict[str, Any]) -> str:
    """All of it, as the README has it."""
    base = results["seconds"]["docker run --rm"]["median"]
    lines = [f"| {results['rounds']} interleaved rounds | median | quartiles | of `docker run` |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, one in results["seconds"].items():
        spread = f"{duration(one['low'])} - {duration(one['high'])}"
        lines.append(f"| {name} | {duration(one['median'])} | {spread} | {ratio(one['median'] / base)} |")
    for name, one in results.get("peers", {}).items():
        spread = f"{duration(one['low'])} - {duration(one['high'])}"
        lines.append(f"| {name} | {duration(one['median'])} | {spread} | {ratio(one['median'] / base)} |")
    lines += ["", "| | |", "| --- | ---: |"]
    lines += [f"| {name}, per second | {value:.1f} |" for name, value in results["per second"].items()]
    parts = results["bytes"]["one box"]
    lines.append(f"| PSS of an idle box: {', '.join(parts)} | {sum(parts.values()) / MIB:.1f} MiB |")
    lines += [f"| {name} | {duration(value)} |" for name, value in {**results["listing"], **results["loading"]}.items()]
    lines += ["", "| | is | at most | |", "| --- | ---: | ---: | --- |"]
    for name, value, most in promises(results):
        lines.append(f"| {name} | {ratio(value)} | {ratio(most)} | {'' if value <= most else 'missed'} |")
    return "\n".join(lines)
