"""Training data: from a labelled file to features."""
