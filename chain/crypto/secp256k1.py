"""secp256k1: verification, signing and tweaking, over libsecp256k1 (through coincurve), or over the `ecdsa` package
where that is missing.

Both backends answer every call alike; `tests/unit/chain/crypto` holds them against each other. Keys and signatures are
bytes in their standard encodings: secrets 32 bytes, public keys SEC1 (33 or 65), x-only keys 32 (BIP340), ECDSA
signatures DER without the hash-type byte, Schnorr signatures 64. Verification answers False to anything malformed; the
other functions raise ValueError.

PICKAXE_SECP256K1=ecdsa in the environment selects the fallback. It is not constant-time: for tests and for machines
without libsecp256k1.
"""

from __future__ import annotations

import os

if os.environ.get("PICKAXE_SECP256K1") == "ecdsa":
    from chain.crypto import secp256k1_ecdsa as _backend
else:
    try:
        from chain.crypto import secp256k1_native as _backend  # type: ignore[no-redef]
    except ImportError:
        from chain.crypto import secp256k1_ecdsa as _backend

BACKEND_NAME: str = _backend.NAME

verify_ecdsa = _backend.verify_ecdsa
verify_schnorr = _backend.verify_schnorr
is_valid_pubkey = _backend.is_valid_pubkey
is_valid_xonly = _backend.is_valid_xonly
is_valid_secret = _backend.is_valid_secret
pubkey_from_secret = _backend.pubkey_from_secret
xonly_from_secret = _backend.xonly_from_secret
compress_pubkey = _backend.compress_pubkey
sign_ecdsa = _backend.sign_ecdsa
sign_schnorr = _backend.sign_schnorr
sign_recoverable = _backend.sign_recoverable
recover = _backend.recover
secret_tweak_add = _backend.secret_tweak_add
secret_negate = _backend.secret_negate
pubkey_tweak_add = _backend.pubkey_tweak_add
xonly_tweak_add = _backend.xonly_tweak_add
check_tap_tweak = _backend.check_tap_tweak
