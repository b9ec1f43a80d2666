"""Beyond the paper: experiments of our own, one module each."""
