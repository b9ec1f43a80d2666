"""Models that learn: masked scores over frozen weights, and finetuned copies."""
