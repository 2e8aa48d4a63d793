"""The trade of the broker, pure: no I/O, no clock of its own, no framework.

calls and their digests, approvals and their transitions, people and grants, audit events and their chain.
"""
