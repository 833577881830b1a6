"""From a request to text: the budget, stop strings, complete characters, the queue's view."""
