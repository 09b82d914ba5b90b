"""The API of cgminer 4.x on port 4028, so that farm tools read this miner as they read others."""
