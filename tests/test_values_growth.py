"""A value that came from a box takes no more memory, read and shown, than a multiple of what it may have in bytes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_values_hostile import forged

from agent_executor.values import MAX_TABLES
from agentbox_magic import TransferError
from agentbox_magic.values import decode, encode

MAX_SIZE = 2**20
MOST = 64
"""Bytes of memory for each byte of ``max_size``. A list of empty lists takes 46."""
NOTHING = {"rangeindex": [0, 0, 1, None]}
ONE = {"rangeindex": [0, 1, 1, None]}
MANY = {"rangeindex": [0, 2**24, 1, None]}
CODE = {"ndarray": ["|i1", [1], 0]}


def crowd(node: Any) -> bytes:
    """As many of one node as there is room for."""
    text = json.dumps(node, separators=(",", ":")).encode()
    count = (MAX_SIZE - 100) // (len(text) + 1)
    return forged(None, raw=b'{"sizes":[],"tree":[' + b",".join([text] * count) + b"]}")


def columns(count: int, rows: int) -> bytes:
    arrays = [{"ndarray": ["|b1", [rows], number]} for number in range(count)]
    index, names = {"rangeindex": [0, rows, 1, None]}, {"rangeindex": [0, count, 1, None]}
    return forged({"dataframe": [arrays, index, names]}, *[bytes(rows)] * count)


STANDS_FOR_MORE = {
    "levels": forged({"multiindex": [[MANY], [CODE], [None]]}, b"\0"),
    "categories": forged({"series": [{"category": [CODE, MANY, False]}, ONE, None]}, b"\0"),
    "categories of an index": forged({"index": [{"category": [CODE, MANY, False]}, None, None]}, b"\0"),
    "levels of column names": forged(
        {"dataframe": [[CODE], ONE, {"multiindex": [[MANY], [{"ndarray": ["|i1", [1], 1]}], [None]]}]}, b"\0", b"\0"
    ),
    "rows without columns": forged({"dataframe": [[], MANY, NOTHING]}),
    "an axis beside one of length 0": forged({"ndarray": ["<i8", [2**24, 0], 0]}, b""),
    "empty fields": forged({"ndarray": [[["a", "|u1", []], ["b", "<i8", [2**24, 0]]], [1], 0]}, b"\0"),
    "fields of empty text": forged(
        {"ndarray": [[["a", "|u1", []], ["b", [[f"f{n}", "|U0", []] for n in range(100)], [200]]], [99], 0]}, bytes(99)
    ),
}
"""A few bytes, each of which took hundreds of megabytes, or would have."""
HELD = {
    "lists": crowd([]),
    "sets": crowd({"set": []}),
    "tables": crowd({"dataframe": [[], NOTHING, NOTHING]}),
    "series": crowd({"series": [{"objects": []}, NOTHING, None]}),
    "moments": crowd({"timestamp": [1, "s", 1_000_000]}),
    "columns of nothing": columns(20_000, 0),
    "columns of one row": columns(20_000, 1),
    "short texts": forged(
        {"series": [{"text": ["object", {"ndarray": ["|i1", [300_000], 0]}, 1]},
                    {"rangeindex": [0, 300_000, 1, None]}, None]},
        b"\2" * 300_000, b"ab" * 300_000,
    ),
    "text that is shown in escapes": forged({"str": 0}, b"\0" * (MAX_SIZE - 200) + "😀".encode()),
    "an index with a frequency": encode(pd.date_range("1900-01-01", periods=100_000, freq="B", unit="s"), MAX_SIZE),
    "a range of its own": forged({"rangeindex": [0, 2**62, 1, None]}),
    "truth with its rows": encode(pd.Series(np.zeros(1_000_000, bool)), MAX_SIZE),
}  # fmt: skip


@pytest.fixture(scope="module")
def grown() -> dict[str, tuple[int, str]]:
    """The growth in KiB, and what was said, of each case."""
    cases = {name: (data, MAX_SIZE) for name, data in (STANDS_FOR_MORE | HELD).items()}
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, here / "growth.py"], input=pickle.dumps(cases), stdout=subprocess.PIPE, timeout=300,
        check=True, env={**os.environ, "PYTHONPATH": str(here.parent)},
    )  # fmt: skip
    return {name: (size, said) for name, size, said in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", [*STANDS_FOR_MORE, *HELD])
def test_memory_is_bounded_by_max_size(grown: dict[str, tuple[int, str]], name: str) -> None:
    size, said = grown[name]
    assert size * 1024 < MOST * MAX_SIZE
    assert "cannot be taken" in said if name in STANDS_FOR_MORE else said == "shown"


def test_without_its_bound_a_range_takes_what_it_stands_for() -> None:
    """The control, with a range of a size that harms nobody."""
    small = {"rangeindex": [0, 2**20, 1, None]}
    value = decode(forged({"multiindex": [[small], [CODE], [None]]}, b"\0"), 2**24)
    assert value.levels[0].memory_usage() < 1000
    assert np.asarray(value.levels[0]).nbytes == 2**23  # which is what showing it makes


@pytest.mark.parametrize(
    "value",
    [
        pd.Series(pd.Categorical([0, 5, None], categories=range(10))),
        pd.DataFrame({"a": range(4)}, index=pd.MultiIndex.from_product([range(2), range(2)])),
        pd.DataFrame(index=range(1000)),
        pd.DataFrame({"flag": np.zeros(200_000, bool)}),
        np.empty((1000, 0)),
    ],
    ids=["categories", "levels", "rows alone", "a flag", "an empty axis"],
)
def test_what_is_honest_still_crosses(value: Any) -> None:
    back = decode(encode(value, 2**19), 2**19)
    if isinstance(value, np.ndarray):
        assert back.shape == value.shape
    else:
        assert back.equals(value)
        assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (pd.DataFrame(index=range(2**24)), "value.index is too large: more than 1 MiB"),
        (pd.Series(pd.Categorical([0], categories=range(2**24))), "value is too large: more than 1 MiB"),
        (np.empty((2**24, 0)), "value is too large: more than 1 MiB"),
        (pd.DataFrame(np.zeros((1, MAX_TABLES))), "value.columns has more than 50,000 columns and indexes"),
        (np.zeros(1, [("a", "u1"), ("b", "u1", (5, 0))]), "records whose field 'b' holds nothing"),
    ],
    ids=["rows alone", "categories", "an empty axis", "columns", "an empty field"],
)
def test_what_could_not_be_taken_is_refused_where_it_is_sent(value: Any, why: str) -> None:
    with pytest.raises(TransferError, match=why):
        encode(value, MAX_SIZE)
