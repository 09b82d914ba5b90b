"""Every parser, on hypothesis' variations of valid input: a value or a documented refusal, in bounded memory; values
serialize to what they came from; streams may be cut anywhere. tests/fuzz/parsers.py says what holds for which.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import TARGETS

EXAMPLES = int(os.environ.get("PICKAXE_PARSER_EXAMPLES", "40"))

#: (what to do, where, with which bytes): one edit
EDIT = st.tuples(
    st.sampled_from(("flip", "insert", "delete", "replace", "cut", "repeat")),
    st.integers(0, 1 << 12),
    st.one_of(
        st.binary(min_size=1, max_size=9), st.sampled_from((b"\xff" * 9, b"\xfe\xff\xff\xff\x01", b"\xfd\xff\xff"))
    ),
)


def edit(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for what, where, some in edits:
        at = where % (len(data) + 1)
        if what == "flip" and at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << some[0] % 8,)) + data[at + 1 :]
        elif what == "insert":
            data = data[:at] + some + data[at:]
        elif what == "delete":
            data = data[:at] + data[at + len(some) :]
        elif what == "replace":
            data = data[:at] + some + data[at + len(some) :]
        elif what == "cut":
            data = data[:at]
        elif what == "repeat":
            data = data[:at] + data[:at][-64:] * (1 + some[0] % 4) + data[at:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_variations_of_valid_input(rng: random.Random, name: str) -> None:
    target = TARGETS[name]
    bases = target.seeds()
    assert all(target.difference(base, memory=True) == "" for base in bases)

    @seed(rng.randrange(1 << 30))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), st.builds(edit, st.sampled_from(bases), st.lists(EDIT, max_size=6))))
    def check(data: bytes) -> None:
        assert target.difference(data) == ""

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_claimed_lengths_cost_no_memory(rng: random.Random, name: str) -> None:
    """A count or length that the bytes cannot hold, anywhere."""
    target = TARGETS[name]
    for base in target.seeds():
        for _ in range(4):
            at = rng.randrange(len(base) + 1)
            for claim in (b"\xfe\xff\xff\xff\x01", b"\xfe\x00\x00\x00\x02", b"\xff" * 9, b"\xff\xff\xff\x7f"):
                assert target.difference(base[:at] + claim + base[at:], memory=True) == ""
                assert target.difference(base[:at] + claim + base[at + len(claim) :], memory=True) == ""
