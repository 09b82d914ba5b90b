"""Canaan's first Avalon: an FTDI serial port, a controller, and up to 32 rows of ten A3256 chips."""
