"""Draft tokens: guesses that a model checks in one step. They change the speed of a reply, never its text."""
