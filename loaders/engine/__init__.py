"""What all engines share: the queue of requests, scheduling, cancelling, tasks between steps, failure and closing."""
