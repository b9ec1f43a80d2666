"""Runs: what a user asks for, from prepared data to a published task or a report."""
