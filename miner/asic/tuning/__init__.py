"""Finding the clock, and where it can be set the voltage, at which a board does what its owner wants of it."""
