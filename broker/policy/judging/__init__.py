"""The judge: from the model (`broker.policy.model`) and a call to a verdict, in bounded time.

decide (which entry, by `globs`) → judge (one entry) → conditions (`patterns`: regular expressions), expressions (CEL),
limits.
"""
