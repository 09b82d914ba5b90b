"""Where log lines go: loggers named after Core's categories, so that the node can print ``[net] …`` as Core does.

Debug lines are Core's LogDebug(BCLog::NET, …); info and warning lines are shown without asking.
"""

from __future__ import annotations

import logging

net = logging.getLogger("pickaxe.net")
mempool = logging.getLogger("pickaxe.mempool")
mempoolrej = logging.getLogger("pickaxe.mempoolrej")
cmpctblock = logging.getLogger("pickaxe.cmpctblock")
txpackages = logging.getLogger("pickaxe.txpackages")
validation = logging.getLogger("pickaxe.validation")
validation = logging.getLogger("pickaxe.validation")
addrman = logging.getLogger("pickaxe.addrman")
