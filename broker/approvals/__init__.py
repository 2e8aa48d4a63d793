"""Holding calls and letting people decide: each change of state is one method and one transaction."""
