"""Judging: how good the answers to labelled rows are, as figures, text and a picture."""
