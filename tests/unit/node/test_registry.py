"""Binding of RPC arguments: order, names, defaults, types, and Core's texts for what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from node.rpc.errors import Code, RpcError
from node.rpc.registry import REGISTRY, Arg, Command, Kind
from node.rpc.table import MODULES


def _command(*args: Arg) -> Command:
    return Command("probe", "Util", lambda *a: a, args, "Does nothing.", on_loop=True, is_async=False)


TWO = _command(Arg("first", Kind.STR), Arg("second|other", Kind.INT, 7))


def _refusal(command: Command, params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        command.bind(params)
    return caught.value


@pytest.mark.parametrize(
    ("params", "bound"),
    [
        (["a"], ["a", 7]),
        (["a", None], ["a", 7]),
        (["a", 3], ["a", 3]),
        ({"first": "a"}, ["a", 7]),
        ({"second": 1, "first": "a"}, ["a", 1]),
        ({"first": "a", "other": 2}, ["a", 2]),
        ({"args": ["a"], "second": 5}, ["a", 5]),
        ({"args": ["a", 4]}, ["a", 4]),
    ],
)
def test_positions_names_aliases_and_defaults(params: Any, bound: list[Any]) -> None:
    assert TWO.bind(params) == bound


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ([], Code.MISC_ERROR, 'probe "first" ( second )'),
        (["a", 1, 2], Code.MISC_ERROR, 'probe "first" ( second )'),
        ({"first": "a", "third": 1}, Code.INVALID_PARAMETER, "Unknown named parameter third"),
        (
            {"args": ["a"], "first": "b"},
            Code.INVALID_PARAMETER,
            "Parameter first specified twice both as positional and named argument",
        ),
        (
            {"first": "a", "second": 1, "other": 2},
            Code.INVALID_PARAMETER,
            "Parameter other specified multiple times",
        ),
        ([None], Code.TYPE_ERROR, "JSON value of type null is not of expected type string"),
        (["a", 1.5], Code.MISC_ERROR, "JSON integer out of range"),
        (["a", 2**63], Code.MISC_ERROR, "JSON integer out of range"),
    ],
)
def test_what_is_wrong_is_named(params: Any, code: Code, text: str) -> None:
    error = _refusal(TWO, params)
    assert error.code is code
    assert text in error.message


def test_all_wrong_types_are_listed_with_their_positions() -> None:
    assert _refusal(TWO, [1, []]).message == (
        'Wrong type passed:\n{\n    "Position 1 (first)": "JSON value of type number is not of expected type string",\n'
        '    "Position 2 (second|other)": "JSON value of type array is not of expected type number"\n}'
    )


def test_a_boolean_is_no_number() -> None:
    assert _refusal(TWO, ["a", True]).code is Code.TYPE_ERROR


def test_echo_sees_exactly_what_was_sent() -> None:
    echo = REGISTRY["echo"]
    assert echo.bind({"arg9": None}) == [None] * 10
    assert echo.bind({"args": [0, 1], "arg3": 3}) == [0, 1, None, 3]


def test_every_method_has_help_and_sound_arguments() -> None:
    assert MODULES
    for command in REGISTRY.values():
        assert command.help.strip(), command.name
        assert command.usage().startswith(command.name)
        names = [alias for arg in command.args for alias in arg.aliases]
        assert len(names) == len(set(names)), command.name
        optional = [arg.optional for arg in command.args]
        if command.name != "prioritisetransaction":  # Core's: its second argument is a relic
            assert optional == sorted(optional), f"{command.name}: an optional argument before a required one"


def test_usage_marks_optional_arguments() -> None:
    assert REGISTRY["scantxoutset"].usage() == 'scantxoutset "action" ( [scanobjects,...] )'
    assert REGISTRY["stop"].usage() == "stop"


def test_options_may_be_named_arguments_of_their_own() -> None:
    """Core's OBJ_NAMED_PARAMS: dumptxoutset's rollback."""
    dump = REGISTRY["dumptxoutset"]
    assert dump.bind(["f", "rollback", {"rollback": 7}]) == ["f", "rollback", {"rollback": 7}]
    assert dump.bind({"path": "f", "rollback": 7}) == ["f", "", {"rollback": 7}]
    both = {"args": ["f"], "rollback": 7, "in_memory": True}
    assert dump.bind(both) == ["f", "", {"rollback": 7, "in_memory": True}]
    for doubled in (
        {"path": "f", "options": {"rollback": 7}, "rollback": 7},
        {"args": ["f", "", {"rollback": 7}], "in_memory": True},
    ):
        with pytest.raises(RpcError, match="conflicts with parameter options"):
            dump.bind(doubled)
