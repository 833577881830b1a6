"""The Session tab: flags, extensions, saved settings, the queue."""
