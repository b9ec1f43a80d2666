"""File formats: each module reads one kind of labelled file to rows, with the places where they stand."""
