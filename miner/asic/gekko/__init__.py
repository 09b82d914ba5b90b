"""BM1384 and BM1387, the chips of older GekkoScience sticks and pods (Compac, 2Pac, NewPac, R606): a chain as in
bm13xx, with frames of its own. Facts: REFERENCE.md. CompacF and R909 carry BM1397 and need nothing of this."""
