"""Slack: approvals are shown there, decided there, and answered there.

What belongs here: everything that knows Slack. What does not: what is told, when and where (`broker.approvals`), who
may decide (`broker.domain.reviewers`).
"""
