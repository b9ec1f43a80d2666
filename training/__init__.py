"""Learns a task's mask over a frozen pretrained encoder from labelled examples, and publishes it.

    options -> rows -> examples -> features -> trainer -> bundle -> store

`training.runs.learn.learn` is the whole of it as one function, ``python -m training.learn_mask`` the same
as a command. The method itself (scores, masks, heads) is in `masking`, the files it ends in are in
`mask_store`.
"""
