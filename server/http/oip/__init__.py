"""Open Inference Protocol v2: routes, models and binary tensors."""
