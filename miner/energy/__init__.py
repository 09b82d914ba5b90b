"""What mining draws, costs and may yield: all of it optional, and absent where it is not known."""
