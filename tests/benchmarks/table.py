"""The results as tables, and beside each promise what was measured."""

from __future__ import annotations

from typing import Any

MIB = 2**20
OURS = {
    "fresh": "fresh box, cold, and 1 + 1",
    "fresh, to its removal": "fresh box, cold, to its removal",
    "warm": "warm: 1 + 1 in a session",
    "from its pool, which hands it out again": "fresh box from the pool, and 1 + 1",
    "100 MB into a box": "100 MB into a box",
    "100 MB out of a box": "100 MB out of a box",
}
"""What of ours is beside a row of a peer."""


def duration(seconds: float) -> str:
    """
    >>> duration(0.0012), duration(0.25), duration(2.5)
    ('1.2 ms', '250 ms', '2.5 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.02 else f"{seconds * 1e3:.0f} ms"


def spread(one: dict[str, float]) -> str:
    """
    >>> spread({"low": 0.1, "high": 0.2})
    '100 ms - 200 ms'
    """
    return f"{duration(one['low'])} - {duration(one['high'])}"


def ratio(value: float) -> str:
    """
    >>> ratio(0.01), ratio(1.5), ratio(30)
    ('1/100', '1.50', '30')
    """
    if value >= 10:
        return f"{value:.0f}"
    return f"1/{1 / value:.0f}" if value < 0.5 else f"{value:.2f}"


def of_box(results: dict[str, Any], state: str, boxes: int) -> int:
    """Bytes of one box of so many."""
    return sum(results["bytes of each box"][state][str(boxes)].values())


def beside(results: dict[str, Any]) -> list[tuple[str, dict[str, float], str, float]]:
    """Each row of a peer, its figure, ours of the same thing, and how many times as long the peer takes.

    >>> peer, ours = {"median": 0.2}, {"median": 0.1}
    >>> beside({"peers": {"other: warm": peer}, "seconds": {OURS["warm"]: ours}})
    [('other: warm', {'median': 0.2}, 'warm: 1 + 1 in a session', 2.0)]
    """
    found = []
    for name, one in results["peers"].items():
        ours = OURS[name.partition(": ")[2]]
        found.append((name, one, ours, one["median"] / results["seconds"][ours]["median"]))
    return found


def promises(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What, how much it is, and how much it may be at most."""
    median = {
        name: one["median"]
        for part in ("seconds", "per second", "listing")
        for name, one in results[part].items()
    }  # fmt: skip
    warm, hit = median["warm: 1 + 1 in a session"], median["fresh box from the pool, and 1 + 1"]
    run, engine = median["docker run --rm"], median["create, start, remove by the engine alone"]
    tasks = [one["median"] for one in results["seconds per task"].values()]
    found = [
        ("warm round trip, of docker exec", warm / median["docker exec"], 1 / 60),
        ("warm round trip, of the host's ipykernel", warm / median["ipykernel on the host"], 1 / 5),
        ("warm round trip, of the limit", warm / median["the limit: a bare pipe round trip, and run_cell"], 2.5),
        ("pool hit, of docker run --rm", hit / run, 1 / 60),
        ("other limits, of docker run --rm", median["a fresh box with other limits, and 1 + 1"] / run, 1 / 8),
        (
            "cold, of docker run --rm with the same walls",
            median["fresh box, cold, and 1 + 1"] / median["docker run --rm with the walls of a box"],
            1.5,
        ),
        (
            "start of a box, of the same container with Docker's defaults and no network",
            median["start of a box, its walls read back"]
            / median["start of the same container with Docker's defaults and no network"],
            1.1,
        ),
        (
            "the same, to its removal",
            median["start and removal of a box"] / median["start and removal of the same with Docker's defaults"],
            1.1,
        ),
        (
            "a busy cell while the pool starts two boxes, of the same without a pool",
            median["a busy cell while the pool starts two boxes"] / median["the same busy cell without a pool"],
            1.05,
        ),
        ("the engine's own rate, of fresh sandboxes", engine / median["fresh sandboxes, each with a run"], 1 / 0.9),
        ("the engine's own rate, of reset boxes", engine / median["runs in boxes that are reset in between"], 1 / 20),
        (
            "the engine's own rate, of map with reuse=True",
            engine / median["map of 500 short tasks with reuse=True"],
            1 / 20,
        ),
        (
            "rate of docker run, of map, at the same concurrency",
            median["docker run --rm --network=none, 100 times"] / median["map of 100 short tasks"],
            1 / 0.9,
        ),
        ("PSS of a box that waits, alone on the engine, of 32 MiB", of_box(results, "waiting", 1) / (32 * MIB), 1.0),
        ("the same beside ten others", of_box(results, "waiting", 11) / (32 * MIB), 1.0),
        ("dearest task of 10 to 500, of the cheapest", max(tasks) / min(tasks), 1.1),
        ("Sandbox.list() with 100 boxes, of 0.2 s", median["Sandbox.list() with 100 boxes"] / 0.2, 1.0),
        ("%sandbox ps with 100 boxes, of 0.2 s", median["%sandbox ps with 100 boxes"] / 0.2, 1.0),
    ]
    if peers := beside(results):
        name, _, _, times = min(peers, key=lambda peer: peer[3])
        found.append((f"ours, of the peer that comes nearest ({name})", 1 / times, 1.0))
    return found


def seconds(results: dict[str, Any]) -> list[str]:
    """The lines of single calls."""
    base = results["seconds"]["docker run --rm"]["median"]
    lines = [f"| {results['rounds']} interleaved rounds | median | quartiles | of `docker run` |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, one in results["seconds"].items():
        lines.append(f"| {name} | {duration(one['median'])} | {spread(one)} | {ratio(one['median'] / base)} |")
    return lines


def peers(results: dict[str, Any]) -> list[str]:
    """The lines of others, in the same rounds."""
    lines = []
    if results["peers"]:
        lines = [
            "| others, in the same rounds | median | quartiles | times ours | |",
            "| --- | ---: | ---: | ---: | --- |",
        ]
        for name, one, _, times in beside(results):
            faster = "" if times > 1 else "faster than ours"
            lines.append(f"| {name} | {duration(one['median'])} | {spread(one)} | {ratio(times)} | {faster} |")
    for name, why in results["peers that do not run"].items():
        lines += ["", f"Not in this run: {name} ({why})."]
    return lines if results["peers"] else lines[1:]


def rest(results: dict[str, Any]) -> list[str]:
    """The lines of rates, memory, lists and loading."""
    lines = ["| a second | median | quartiles |", "| --- | ---: | ---: |"]
    for name, one in results["per second"].items():
        lines.append(f"| {name} | {one['median']:.1f} | {one['low']:.1f} - {one['high']:.1f} |")
    lines += ["", "| PSS of each box | supervisor | worker | shim | in all |", "| --- | ---: | ---: | ---: | ---: |"]
    strangers = results["containers of others"]
    alone = f"beside {strangers} containers of somebody else" if strangers else "alone on the engine"
    for state, name in (("waiting", "waits in the pool"), ("used", "has run a cell")):
        for boxes, where in (("1", alone), ("11", "beside ten others")):
            parts = results["bytes of each box"][state][boxes]
            sizes = " | ".join(f"{size / MIB:.1f}" for size in (*parts.values(), sum(parts.values())))
            lines.append(f"| {name}, {where} | {sizes} MiB |")
    lines += [
        "",
        "| a task (1 + 1) and a reset, so many one after another in one new box | median of one | quartiles |",
    ]
    lines.append("| --- | ---: | ---: |")
    for count, one in results["seconds per task"].items():
        lines.append(f"| {count} of them | {duration(one['median'])} | {spread(one)} |")
    lines += ["", "| | median | quartiles |", "| --- | ---: | ---: |"]
    for name, one in {**results["listing"], **results["loading"]}.items():
        lines.append(f"| {name} | {duration(one['median'])} | {spread(one)} |")
    return lines


def promised(results: dict[str, Any]) -> list[str]:
    """The lines of the promises."""
    lines = ["| promised | is | at most | |", "| --- | ---: | ---: | --- |"]
    for name, value, most in promises(results):
        lines.append(f"| {name} | {ratio(value)} | {ratio(most)} | {'' if value <= most else 'missed'} |")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """All of it."""
    parts = [seconds(results), peers(results), rest(results), promised(results)]
    return "\n\n".join("\n".join(part) for part in parts if part)
