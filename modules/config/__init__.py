"""Configuration that is read once at startup and does not change: flags, CMD_FLAGS.txt, settings.yaml and folders."""
