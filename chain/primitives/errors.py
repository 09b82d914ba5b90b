"""The three kinds of failure that every package shares.

Consensus failures (`chain.consensus.errors`), policy refusals (`chain.mempool`) and peer misbehaviour (`p2p`) have
classes of their own and never derive from these, so that one kind cannot be caught as another.
"""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes or text from outside that are not what they claim to be."""


class UserError(Exception):
    """What the user asked for cannot be done. The text is one line: what is wrong and what to do."""


class LocalFault(Exception):
    """This machine failed us: a full disk, an unreadable or corrupt file. Never a verdict on the data of others."""
