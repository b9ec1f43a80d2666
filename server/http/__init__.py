"""HTTP: routes, bodies, replies, errors and middleware."""
