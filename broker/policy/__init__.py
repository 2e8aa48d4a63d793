"""Judging a call: documents, what they say of one call, and the limits that go with it. Pure but for reading files.

source (a text in JSON or YAML) → tree (values and their places) → documents (what may be written) → mistakes (what is
wrong) → native (what it means) → decide, limits; load does it all, from a file. warnings, schema: for who writes.
"""
