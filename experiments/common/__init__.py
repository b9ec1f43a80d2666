"""Common: what experiments share, such as context, scales, tasks, trained runs and reports."""
