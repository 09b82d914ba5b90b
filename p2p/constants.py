"""Numbers of the peer protocol: one home each, with their source. Times are seconds, sizes bytes, unless the name says
otherwise."""

from __future__ import annotations

from enum import IntFlag

from chain.primitives.amount import COIN

# --- versions (Core: node/protocol_version.h)
PROTOCOL_VERSION = 70016
MIN_PEER_PROTO_VERSION = 31800  #: older peers cannot sync by headers: dropped
BIP31_VERSION = 60000  #: ping carries a nonce only above this (BIP31)
SENDHEADERS_VERSION = 70012  #: BIP130
FEEFILTER_VERSION = 70013  #: BIP133
SHORT_IDS_BLOCKS_VERSION = 70014  #: BIP152
WTXID_RELAY_VERSION = 70016  #: BIP339
ADDRV2_VERSION = (
    70016  #: BIP155 names none; Core offers addrv2 from here as a courtesy to software that dislikes unknown messages
)

# --- framing (Core: net.h, protocol.h)
HEADER_SIZE = 24
MAX_MESSAGE_SIZE = 4_000_000  #: a longer announced payload ends the connection
MAX_SUBVERSION_LENGTH = 256


class Services(IntFlag):
    """What a node offers (BIP111, 144, 157, 159, 324); also the bits that we know by name in getpeerinfo."""

    NONE = 0
    NETWORK = 1
    BLOOM = 1 << 2
    WITNESS = 1 << 3
    COMPACT_FILTERS = 1 << 6
    NETWORK_LIMITED = 1 << 10
    P2P_V2 = 1 << 11


def service_names(services: int) -> list[str]:
    """Core's names of the bits, unknown ones as ``UNKNOWN[2^n]``."""
    known = {int(s): str(s.name) for s in Services if s}
    return [known.get(1 << n, f"UNKNOWN[2^{n}]") for n in range(64) if services >> n & 1]


# --- counts in messages (Core: net_processing.cpp)
MAX_LOCATOR_SIZE = 101
MAX_INV_SIZE = 50_000
MAX_GETDATA_SIZE = 1_000  #: most that we ask for in one message
MAX_HEADERS_RESULTS = 2_000
MAX_ADDR_TO_SEND = 1_000
MAX_GETBLOCKS_RESULTS = 500
MAX_GETCFILTERS_SIZE = 1_000  #: BIP157
MAX_GETCFHEADERS_SIZE = 2_000
CFCHECKPT_INTERVAL = 1_000
MAX_BLOCKS_TO_ANNOUNCE = 8  #: longer announcements fall back to inv

# --- headers and blocks
HEADERS_RESPONSE_TIME_S = 120
HEADERS_DOWNLOAD_TIMEOUT_BASE_S = 15 * 60
HEADERS_DOWNLOAD_TIMEOUT_PER_HEADER_S = 0.001
MAX_BLOCKS_IN_TRANSIT_PER_PEER = 16
BLOCK_DOWNLOAD_WINDOW = 1024
BLOCK_STALLING_TIMEOUT_DEFAULT_S = 2
BLOCK_STALLING_TIMEOUT_MAX_S = 64
BLOCK_DOWNLOAD_TIMEOUT_BASE = 1.0  #: in block intervals
BLOCK_DOWNLOAD_TIMEOUT_PER_PEER = 0.5  #: in block intervals, for each other peer that we download from
CHAIN_SYNC_TIMEOUT_S = 20 * 60
MAX_OUTBOUND_PEERS_TO_PROTECT = 4
STALE_RELAY_AGE_LIMIT_S = 30 * 24 * 3600  #: older blocks off the main chain are not served: they would fingerprint us
NODE_NETWORK_LIMITED_MIN_BLOCKS = 288  #: BIP159
ANTI_DOS_WORK_BLOCKS = 144  #: headers may fork this many blocks of work below our tip
CMPCTBLOCKS_VERSION = 2
MAX_CMPCTBLOCK_DEPTH = 5
MAX_BLOCKTXN_DEPTH = 10
MAX_CMPCTBLOCKS_INFLIGHT_PER_BLOCK = 3

# --- transactions (Core: node/txdownloadman.h, net_processing.cpp)
MAX_PEER_TX_REQUEST_IN_FLIGHT = 100
MAX_PEER_TX_ANNOUNCEMENTS = 5_000
TXID_RELAY_DELAY_S = 2
NONPREF_PEER_TX_DELAY_S = 2
OVERLOADED_PEER_TX_DELAY_S = 2
GETDATA_TX_INTERVAL_S = 60
INBOUND_INVENTORY_BROADCAST_INTERVAL_S = 5
OUTBOUND_INVENTORY_BROADCAST_INTERVAL_S = 2
INVENTORY_BROADCAST_TARGET = 14 * INBOUND_INVENTORY_BROADCAST_INTERVAL_S
INVENTORY_BROADCAST_MAX = 1_000
#: transactions kept although a parent is missing: as many as Core 31 can hold; their weight per peer is bounded besides
MAX_ORPHANS = 3_000
MAX_ORPHAN_WEIGHT = 400_000
MAX_ORPHANS_WEIGHT_PER_PEER = 404_000
AVG_FEEFILTER_BROADCAST_INTERVAL_S = 600
MAX_FEEFILTER_CHANGE_DELAY_S = 300
FEE_FILTER_UNLIMITED = 21_000_000 * COIN

# --- addresses
MAX_PCT_ADDR_TO_SEND = 23
MAX_ADDR_RATE_PER_SECOND = 0.1
AVG_ADDRESS_BROADCAST_INTERVAL_S = 30
ROTATE_ADDR_RELAY_DEST_INTERVAL_S = 24 * 3600

# --- connections (Core: net.h)
DEFAULT_CONNECT_TIMEOUT_S = 5.0
PING_INTERVAL_S = 120
TIMEOUT_INTERVAL_S = 20 * 60  #: without a pong, or without a byte sent or received
MAX_OUTBOUND_FULL_RELAY = 8
MAX_BLOCK_RELAY_ONLY = 2
MAX_ADDNODE = 8
FEELER_INTERVAL_S = 120
DEFAULT_BAN_S = 24 * 3600
