"""Numbers that every network shares, each with its source. Those that differ by network live in chain.params."""

from __future__ import annotations

from chain.primitives.transaction import WITNESS_SCALE_FACTOR

MAX_BLOCK_WEIGHT = 4_000_000  #: BIP141
MAX_BASE_SIZE = MAX_BLOCK_WEIGHT // WITNESS_SCALE_FACTOR  #: bytes without witnesses, of a block or a transaction
MAX_BLOCK_SERIALIZED_SIZE = 4_000_000  #: what a weight of 4,000,000 allows at most; bounds buffers, decides nothing
MAX_BLOCK_SIGOPS_COST = 80_000  #: BIP141: a legacy or P2SH signature operation costs four, a witness one costs one
COINBASE_MATURITY = 100  #: blocks before a coinbase output may be spent (Core consensus/consensus.h)
MIN_COINBASE_SCRIPT_SIZE = 2
MAX_COINBASE_SCRIPT_SIZE = 100

MAX_TIMEWARP_S = 600  #: BIP94: how far a period's first block may lie before the one before it

WITNESS_COMMITMENT_HEADER = bytes.fromhex("6a24aa21a9ed")  #: BIP141: OP_RETURN, push of 36, commitment header
MIN_WITNESS_COMMITMENT_SIZE = 38

BIP34_IMPLIES_BIP30_LIMIT = 1_983_702  #: from this height old coinbases could be repeated, so BIP30 is looked up again

VERSIONBITS_TOP_BITS = 0x20000000  #: BIP9
VERSIONBITS_TOP_MASK = 0xE0000000  #: BIP9

BIP54_PERIOD = 2016  #: BIP54 ties its timestamp rules to this many blocks
BIP54_TIMEWARP_GRACE_S = 7200
BIP54_MAX_TX_SIGOPS = 2500  #: per transaction, in the scripts that its inputs run
BIP54_FORBIDDEN_TX_SIZE = 64  #: such a transaction looks like an inner node of the merkle tree
