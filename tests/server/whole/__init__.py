"""Whole server: HTTP, engine, tasks and store together, under clients, load, failures and for long."""
