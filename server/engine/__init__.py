"""The engine: from features to logits, through a request queue and one worker, with the masks in memory."""
