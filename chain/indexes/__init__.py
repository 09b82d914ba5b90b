"""Optional indexes beside the chain: each follows it, none is needed to validate."""
