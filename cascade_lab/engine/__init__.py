"""What training needs besides the model: optimizer, schedule, averages, checkpoints, records."""
