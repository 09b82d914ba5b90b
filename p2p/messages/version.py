"""version: the first message in either direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chain.primitives.serialize import Reader, var_bytes
from p2p.constants import MAX_SUBVERSION_LENGTH
from p2p.netaddress import UNSPECIFIED, NetAddress


@dataclass(frozen=True, slots=True)
class Version:
    """Fields of the version message.

    `time` is unix seconds, `receiver` is how the sender sees us, `nonce` tells connections to oneself,
    `start_height` is the sender's tip and `relay` whether transactions may be announced to the sender (BIP37).
    Everything from `nonce` on may be missing in messages of old peers.
    """

    command: ClassVar[str] = "version"
    max_size: ClassVar[int] = 2_000

    version: int
    services: int
    time: int
    receiver: NetAddress = UNSPECIFIED
    nonce: int = 1
    user_agent: bytes = b""
    start_height: int = -1
    relay: bool = True
    receiver_services: int = 0
    sender_services: int = 0

    @classmethod
    def decode(cls, payload: bytes) -> Version:
        reader = Reader(payload)
        version, services, time = reader.i32(), reader.u64(), max(reader.i64(), 0)
        receiver_services = reader.u64()
        address = reader.bytes(16)
        receiver = NetAddress.from_v1(address, reader.u16_be())
        nonce, user_agent, start_height, relay, sender_services = 1, b"", -1, True, 0
        if reader.remaining:
            sender_services = reader.u64()
            reader.bytes(18)  # the sender's address: nobody fills it in
            nonce = reader.u64()
        if reader.remaining:
            user_agent = reader.var_bytes(MAX_SUBVERSION_LENGTH)
        if reader.remaining:
            start_height = reader.i32()
        if reader.remaining:
            relay = reader.u8() != 0
        return cls(
            version,
            services,
            time,
            receiver,
            nonce,
            user_agent,
            start_height,
            relay,
            receiver_services,
            sender_services,
        )

    def encode(self) -> bytes:
        return b"".join(
            (
                self.version.to_bytes(4, "little", signed=True),
                self.services.to_bytes(8, "little"),
                self.time.to_bytes(8, "little", signed=True),
                self.receiver_services.to_bytes(8, "little"),
                self.receiver.v1_bytes or bytes(16),
                self.receiver.port.to_bytes(2, "big"),
                self.sender_services.to_bytes(8, "little"),
                bytes(18),
                self.nonce.to_bytes(8, "little"),
                var_bytes(self.user_agent),
                self.start_height.to_bytes(4, "little", signed=True),
                bytes([self.relay]),
            )
        )
