"""What is read once at start and never changes after: flags, CMD_FLAGS.txt, settings.yaml and the folders."""
