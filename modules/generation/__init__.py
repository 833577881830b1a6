"""From a request to text: token budget, stop strings, complete characters, and the queue."""
