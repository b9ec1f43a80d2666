"""Copies: finetuned checkpoints become tasks."""
