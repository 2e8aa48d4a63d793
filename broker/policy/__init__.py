"""Judging a call: documents, what they say of one call, and the limits that go with it. Pure but for reading files."""
