"""`pickaxe up`: node, miner and two wallets together on the dev network, on one live screen."""

from node.up.command import up as up
