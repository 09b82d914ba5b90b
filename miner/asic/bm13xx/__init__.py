"""Bitmain's BM1397, BM1362, BM1366, BM1368, BM1370 and BM1372/73 SHA-256 chips on a serial chain.

`frames` is the wire, `registers`, `pll` and `ticket_mask` the chips' settings, `models` the chips as data, `driver` the
state machine. Nothing here opens a port or reads a clock. Facts and their sources: REFERENCE.md.
"""
