"""The durable record: tables, queries, the group-committing writer. Rows never leave here; callers get values.

How something is written: writer (which works share a commit) → commits (in the writer's thread) or, for brief works of
a server's loop, turn (SQLite) and flow → drafts → pipeline (PostgreSQL); transaction (what a work is given) → chain
(the record), slots and buckets (limits). How statements run: engine, prepared, rows, selected, connected, columns.
Every other module is about one kind of thing: approvals, grants, people, …
"""
