"""Perplexity: measuring it, runs for the page, and the table of results."""
