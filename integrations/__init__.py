"""Channels that carry notices to people and their decisions back. One folder or module for each vendor."""
