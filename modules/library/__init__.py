"""What lies in models/: the shelf, the settings kept for each model, the demo model, and the model in memory."""
