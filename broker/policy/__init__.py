"""Judging calls by what a policy says, and the limits that go with it. Pure but for reading files.

`language`: from a text to the `model`; `judging`: from the model and a call to a verdict. `load` does both, from a
file, and `watch` does it again when the file changes. `tables` and `replay`, with `counters`, try a policy on examples
and on the past.
"""
