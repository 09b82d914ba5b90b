"""Boards of the Icarus type: Icarus and Lancelot FPGAs, the Block Erupter USB, AntMiner U1, U2 and U3."""
