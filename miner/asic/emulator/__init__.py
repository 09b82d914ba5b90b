"""Chains of BM13xx chips in software, behind a pseudo-terminal: what a driver is tested against, and a board for people
who have none (`pickaxe asic emulate`).

Written from bm13xx/REFERENCE.md, not from the driver; the two share checksums and constants only.
"""
