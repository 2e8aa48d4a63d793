"""Slack: approvals are posted, followed and decided there.

web_api (every call of Slack's Web API, and what its errors mean) ← channel (the port: posts, rewrites, remarks).
What does not belong here: when something is told (`broker.approvals.outbox`), and who may decide (`broker.domain`).
"""
