"""What experiments share: context, scales, tasks, trained runs, drawing."""
