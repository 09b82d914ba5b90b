"""Partially signed Bitcoin transactions (BIP174, 371)."""

from __future__ import annotations

from wallet.psbt.fields import Global, In, Out, PsbtError
from wallet.psbt.psbt import Psbt, PsbtInput, PsbtMap, PsbtOutput, combine

__all__ = ["Global", "In", "Out", "Psbt", "PsbtError", "PsbtInput", "PsbtMap", "PsbtOutput", "combine"]
