"""Network addresses as the protocol carries them: IPv4 and IPv6 in 16 bytes (version, addr), and BIP155's form with a
network id (addrv2)."""

from __future__ import annotations

import base64
import ipaddress
from enum import IntEnum
from hashlib import sha3_256
from typing import NamedTuple

from chain.primitives.errors import DecodeError
from chain.primitives.serialize import Reader, var_bytes, write_compact_size

_V4_IN_V6 = bytes(10) + b"\xff\xff"
_TORV2_IN_V6 = bytes.fromhex("fd87d87eeb43")
_INTERNAL_IN_V6 = bytes.fromhex("fd6b88c08724")
MAX_ADDRV2_SIZE = 512  #: BIP155: longer addresses are malformed whatever their network


class NetworkId(IntEnum):
    """BIP155's table."""

    IPV4 = 1
    IPV6 = 2
    TORV2 = 3
    TORV3 = 4
    I2P = 5
    CJDNS = 6


_SIZES = {
    NetworkId.IPV4: 4,
    NetworkId.IPV6: 16,
    NetworkId.TORV2: 10,
    NetworkId.TORV3: 32,
    NetworkId.I2P: 32,
    NetworkId.CJDNS: 16,
}


class NetAddress(NamedTuple):
    """A network id (BIP155), its address bytes and a port. Unknown networks are carried but never connected to."""

    network: int
    address: bytes
    port: int

    @property
    def is_ip(self) -> bool:
        """Whether a socket can reach it without a proxy."""
        return self.network in (NetworkId.IPV4, NetworkId.IPV6)

    @property
    def host(self) -> str:
        """The address without port, as users write it."""
        if self.is_ip:
            return str(ipaddress.ip_address(self.address))
        if self.network == NetworkId.CJDNS:
            return str(ipaddress.IPv6Address(self.address))
        if self.network == NetworkId.TORV3:
            checksum = sha3_256(b".onion checksum" + self.address + b"\x03").digest()[:2]
            return base64.b32encode(self.address + checksum + b"\x03").decode().lower() + ".onion"
        if self.network == NetworkId.I2P:
            return base64.b32encode(self.address).decode().lower().rstrip("=") + ".b32.i2p"
        return self.address.hex()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def network_name(self) -> str:
        """Core's name, as getpeerinfo and getnodeaddresses give it."""
        if self.is_ip and not self.is_routable:
            return "not_publicly_routable"
        names = {
            NetworkId.IPV4: "ipv4",
            NetworkId.IPV6: "ipv6",
            NetworkId.TORV3: "onion",
            NetworkId.I2P: "i2p",
            NetworkId.CJDNS: "cjdns",
        }
        return next((name for network, name in names.items() if network == self.network), "not_publicly_routable")

    @property
    def is_local(self) -> bool:
        """Loopback, or 0.0.0.0/8: an address shared by everybody on this machine."""
        if self.network == NetworkId.IPV4:
            return self.address[0] in (0, 127)
        return self.network == NetworkId.IPV6 and self.address == bytes(15) + b"\x01"

    @property
    def is_routable(self) -> bool:
        """Whether the public internet (or an overlay network) can route to it."""
        if not self.is_ip:
            return self.network in (NetworkId.TORV3, NetworkId.I2P, NetworkId.CJDNS)
        ip = ipaddress.ip_address(self.address)
        if (
            self.network == NetworkId.IPV4 and self.address[:2] == b"\xc6\x12"
        ):  # 198.18/15 benchmarking, as RFC2544 in Core
            return False
        return ip.is_global and not ip.is_multicast

    @property
    def is_valid(self) -> bool:
        """Known network, right length, neither unspecified nor broadcast."""
        if self.network not in _SIZES or len(self.address) != _SIZES[NetworkId(self.network)]:
            return False
        return any(self.address) and self.address != b"\xff\xff\xff\xff"

    @property
    def group(self) -> bytes:
        """The part that one operator plausibly controls: /16 of IPv4, /32 of IPv6, 4 bits of overlays (Core:
        NetGroupManager)."""
        if self.network == NetworkId.IPV4:
            return bytes([self.network]) + (self.address[:2] if self.is_routable else b"")
        if self.network == NetworkId.IPV6:
            return bytes([self.network]) + (self.address[:4] if self.is_routable else b"")
        return bytes([self.network & 0xFF, self.address[0] & 0xF0 if self.address else 0])

    @property
    def key(self) -> bytes:
        """Unique bytes of address and port, for hashing."""
        return bytes([self.network]) + self.address + self.port.to_bytes(2, "big")

    @classmethod
    def from_ip(cls, host: str, port: int) -> NetAddress:
        """From a numeric address (a zone id is dropped, IPv4 in IPv6 is unwrapped); ValueError if it is not one."""
        ip = ipaddress.ip_address(host.strip("[]").partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return cls(NetworkId.IPV4 if ip.version == 4 else NetworkId.IPV6, ip.packed, port)

    @classmethod
    def from_v1(cls, address: bytes, port: int) -> NetAddress:
        """From the 16 bytes of version and addr messages."""
        if address[:12] == _V4_IN_V6:
            return cls(NetworkId.IPV4, address[12:], port)
        if address[:6] == _TORV2_IN_V6:
            return cls(NetworkId.TORV2, address[6:], port)
        return cls(NetworkId.IPV6, address, port)

    @property
    def v1_bytes(self) -> bytes | None:
        """The 16 bytes of version and addr messages; None for a network that they cannot express."""
        if self.network == NetworkId.IPV4:
            return _V4_IN_V6 + self.address
        if self.network == NetworkId.TORV2:
            return _TORV2_IN_V6 + self.address
        return self.address if self.network == NetworkId.IPV6 else None


UNSPECIFIED = NetAddress(NetworkId.IPV6, bytes(16), 0)


def split_host_port(text: str, default_port: int) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]:port`` or a bare v6 address into (host, port); ValueError for a bad port."""
    text = text.strip()
    host, colon, port_text = text.rpartition(":")
    bare_v6 = ":" in host and not host.startswith("[")
    if not colon or bare_v6 or text.endswith("]"):
        return text.strip("[]"), default_port
    if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
        raise ValueError(f"not a port: {port_text!r}")
    if not host:
        raise ValueError(f"no host in {text!r}")
    return host.strip("[]"), int(port_text)


class TimedAddress(NamedTuple):
    """An entry of addr and addrv2: when it was last seen (unix s, u32), the services it was said to offer, and where it
    is."""

    time: int
    services: int
    address: NetAddress

    def encode_v1(self) -> bytes:
        """30 bytes; ValueError for a network that the form cannot express."""
        raw = self.address.v1_bytes
        if raw is None:
            raise ValueError(f"{self.address} has no form in an addr message")
        return (
            self.time.to_bytes(4, "little")
            + self.services.to_bytes(8, "little")
            + raw
            + self.address.port.to_bytes(2, "big")
        )

    def encode_v2(self) -> bytes:
        """BIP155: time, CompactSize services, network id, length-prefixed address, big-endian port."""
        address = self.address
        return (
            self.time.to_bytes(4, "little")
            + write_compact_size(self.services)
            + bytes([address.network])
            + var_bytes(address.address)
            + address.port.to_bytes(2, "big")
        )

    @classmethod
    def decode_v1(cls, reader: Reader) -> TimedAddress:
        time, services = reader.u32(), reader.u64()
        address = reader.bytes(16)
        return cls(time, services, NetAddress.from_v1(address, reader.u16_be()))

    @classmethod
    def decode_v2(cls, reader: Reader) -> TimedAddress:
        time, services, network = reader.u32(), reader.compact_size(limit=(1 << 64) - 1), reader.u8()
        size = reader.compact_size()
        if size > MAX_ADDRV2_SIZE:
            raise DecodeError(f"Address too long: {size} > {MAX_ADDRV2_SIZE}")
        address = reader.bytes(size)
        wanted = _SIZES.get(NetworkId(network)) if network in _SIZES else None
        if wanted is not None and size != wanted:
            raise DecodeError(f"BIP155 {NetworkId(network).name} address with length {size} (should be {wanted})")
        if network == NetworkId.IPV6 and (address[:6] in (_TORV2_IN_V6, _INTERNAL_IN_V6) or address[:12] == _V4_IN_V6):
            address = bytes(16)  # an embedded address of another network: not valid here, ignored later
        return cls(time, services, NetAddress(network, address, reader.u16_be()))
