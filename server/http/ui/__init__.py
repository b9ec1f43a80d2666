"""Console: the page at /ui that shows what the server does, and the files that it is made of."""
