"""What the API can answer: number, severity and text of each message.

Source: the API-README of cgminer 4.12 (API 3.7) and the numbers that its replies carry. Farm tools compare the numbers.
"""

from __future__ import annotations

from enum import Enum


class Message(Enum):
    """(code, severity, text): severity S success, I information, W warning, E error; the text takes its places in
    str.format's way."""

    POOLS = 7, "S", "{} Pool(s)"
    NO_POOLS = 8, "E", "No pools"
    DEVICES = 9, "S", "{} ASC(s) - {} PGA(s)"
    NO_DEVICES = 10, "E", "No ASCs/PGAs"
    SUMMARY = 11, "S", "Summary"
    INVALID_COMMAND = 14, "E", "Invalid command"
    MISSING_DEVICE = 15, "E", "Missing device id parameter"
    VERSION = 22, "S", "CGMiner versions"
    INVALID_JSON = 23, "E", "Invalid JSON"
    MISSING_COMMAND = 24, "E", "Missing JSON 'command'"
    MISSING_POOL = 25, "E", "Missing pool id parameter"
    INVALID_POOL = 26, "E", "Invalid pool id {} - range is 0 - {}"
    SWITCHING = 27, "S", "Switching to pool {}:'{}'"
    CONFIG = 33, "S", "CGMiner config"
    ACCESS_DENIED = 45, "E", "Access denied to '{}' command"
    ACCESS_OK = 46, "S", "Privileged access OK"
    POOL_ENABLED = 47, "S", "Enabling pool {}:'{}'"
    POOL_DISABLED = 48, "S", "Disabling pool {}:'{}'"
    POOL_ALREADY_ENABLED = 49, "I", "Pool {}:'{}' already enabled"
    POOL_ALREADY_DISABLED = 50, "I", "Pool {}:'{}' already disabled"
    LAST_POOL_DISABLED = 51, "E", "Cannot disable last active pool {}:'{}'"
    MISSING_POOL_DETAILS = 52, "E", "Missing addpool details"
    INVALID_POOL_DETAILS = 53, "E", "Invalid addpool details '{}'"
    POOL_ADDED = 55, "S", "Added pool {}: '{}'"
    NO_PGAS = 56, "E", "No PGAs"
    PGA = 57, "S", "PGA{}"
    INVALID_PGA = 58, "E", "Invalid PGA id {} - range is 0 - {}"
    PGA_COUNT = 59, "S", "PGA count"
    NOTIFY = 60, "S", "Notify"
    PGA_ALREADY_ENABLED = 61, "I", "PGA {} already enabled"
    PGA_ALREADY_DISABLED = 62, "I", "PGA {} already disabled"
    PGA_ENABLED = 63, "I", "PGA {} sent enable message"
    PGA_DISABLED = 64, "I", "PGA {} set disable flag"
    LAST_POOL_REMOVED = 66, "E", "Cannot remove last pool {}:'{}'"
    ACTIVE_POOL = 67, "E", "Cannot remove active pool {}:'{}'"
    POOL_REMOVED = 68, "S", "Removed pool {}:'{}'"
    DEVICE_DETAILS = 69, "S", "Device Details"
    STATS = 70, "S", "CGMiner stats"
    MISSING_CHECK = 71, "E", "Missing check cmd"
    CHECK = 72, "S", "Check command"
    POOL_PRIORITY = 73, "S", "Changed pool priorities"
    DUPLICATE_POOL = 74, "E", "Duplicate pool specified {}"
    COIN = 78, "S", "CGMiner coin"
    DEBUG = 79, "S", "Debug settings"
    PGA_NO_IDENTIFY = 81, "W", "PGA{} does not support identify"
    UNKNOWN_CONFIG = 83, "E", "Unknown config '{}'"
    MISSING_CONFIG = 85, "E", "Missing config parameters 'name,N'"
    MISSING_CONFIG_VALUE = 86, "E", "Missing config value N for '{},N'"
    NO_USB_STATS = 88, "I", "No USB Statistics"
    PGA_NO_SET = 90, "W", "PGA {} does not support pgaset"
    NO_HOTPLUG = 102, "W", "Hotplug is not available"
    ASC_COUNT = 104, "S", "ASC count"
    NO_ASCS = 105, "E", "No ASCs"
    ASC = 106, "S", "ASC{}"
    INVALID_ASC = 107, "E", "Invalid ASC id {} - range is 0 - {}"
    ASC_ALREADY_ENABLED = 108, "I", "ASC {} already enabled"
    ASC_ALREADY_DISABLED = 109, "I", "ASC {} already disabled"
    ASC_ENABLED = 110, "I", "ASC {} sent enable message"
    ASC_DISABLED = 111, "I", "ASC {} set disable flag"
    ASC_NO_IDENTIFY = 114, "W", "ASC{} does not support identify"
    ASC_NO_SET = 117, "W", "ASC {} does not support ascset"
    LOCK_STATS_OFF = 124, "W", "Lock stats not enabled"
    LCD = 125, "S", "LCD"
    DEPRECATED = 127, "E", "Deprecated config option '{}'"

    @property
    def code(self) -> int:
        """The number that tools know it by."""
        return self.value[0]

    @property
    def severity(self) -> str:
        """S, I, W or E."""
        return self.value[1]

    def text(self, *places: object) -> str:
        """With its places filled in."""
        return self.value[2].format(*places)
