"""Jobs and where they come from: a node's getblocktemplate, or a benchmark."""
