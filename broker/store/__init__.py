"""The durable record: tables, queries, the group-committing writer. Rows never leave here; callers get values."""
