"""Open Inference Protocol v2 over gRPC, beside HTTP, with the same admission, limits and keys."""
