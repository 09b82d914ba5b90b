"""Stratum V2: work from a pool over an encrypted, authenticated connection. `noise.py` is the handshake and the cipher,
`wire.py` frames and types, `messages.py` the messages, `client.py` the protocol without sockets.

Source: the specification at stratum-mining/sv2-spec; section numbers in this package are its.
"""
