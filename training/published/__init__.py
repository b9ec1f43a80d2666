"""Published tasks on files: labelling of rows, and how good the answers are."""
