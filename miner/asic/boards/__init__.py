"""What is around the chips: supply, fan, sensors and reset, and whose duty it is that they end switched off.

`profile.py` says what boards there are, `power.py` what a board's supply is to the rest, `bitaxe.py` and `bare.py` are
the two kinds of it, `safety.py` decides, `watchdog.py` acts when nobody else can. Facts: REFERENCE.md.
"""
