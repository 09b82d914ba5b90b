"""Stratum V1: work from a pool. `client.py` is the protocol without sockets, `session.py` one connection, `source.py`
the pools in their order."""
