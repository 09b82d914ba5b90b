"""Common spends proven valid by compiled code that holds no GIL; `chain.script.spends` is what uses it.

`prove.py` is the loop and has the list of what counts as common, `templates.py` the spends, `digests.py` what they
sign, `layout.py` the memory they work in.
"""
