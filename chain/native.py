"""All compiled code of the chain, loaded at once.

Until then Python does everything, slower, to the same effect. So it does where libsecp256k1 is missing.
"""

from __future__ import annotations

from chain.crypto import secp256k1
from chain.primitives import block
from chain.script.spends import prover


def load() -> None:
    """Have it loaded, from Numba's cache (about a second) or through the compiler (once in an installation, some 30
    seconds). Called from any thread, while others are at work.
    """
    prover()([], [], 0)
    if secp256k1.BACKEND_NAME == "libsecp256k1":
        import chain.consensus.native
        import chain.primitives.native.coins
        import chain.storage.undo_native  # noqa: F401

        block.use_compiled()  # last: from then on blocks are read and connected by all of this
