"""What a peer can do wrong. Neither class derives from the errors of the chain, so that a bad block and a bad peer stay
different things."""

from __future__ import annotations


class PeerMisbehaviour(Exception):
    """A peer broke a rule that no honest peer breaks: it is disconnected and its address discouraged (unless it is
    noban, manual or local).

    The text is Core's where Core has one, e.g. ``inv message size = 50001``.
    """


class PeerDropped(Exception):
    """The peer is of no use to us (obsolete, wrong services, a feature used out of order): disconnected, not
    discouraged.

    The text is what is logged before ``, disconnecting peer=N``.
    """


class RequestRefused(Exception):
    """What the user (by RPC) asked of the peer-to-peer layer cannot be done. The text is Core's; `kind` picks the RPC
    error code."""

    ALREADY_ADDED = "already added"  #: RPC_CLIENT_NODE_ALREADY_ADDED, -23
    NOT_ADDED = "not added"  #: RPC_CLIENT_NODE_NOT_ADDED, -24
    NOT_CONNECTED = "not connected"  #: RPC_CLIENT_NODE_NOT_CONNECTED, -29
    INVALID_SUBNET = "invalid subnet"  #: RPC_CLIENT_INVALID_IP_OR_SUBNET, -30
    AT_CAPACITY = "at capacity"  #: RPC_CLIENT_NODE_CAPACITY_REACHED, -34
    INVALID = "invalid"  #: RPC_INVALID_PARAMETER, -8

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
