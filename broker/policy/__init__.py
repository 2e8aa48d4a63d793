"""Judging a call: documents, what they say of one call, and the limits that go with it. Pure but for reading files.

documents (what may be written) → mistakes (what is wrong) → limits, decide (what it means) → load (from a file).
"""
