"""The sandbox that runs chat templates: limits, a budget, and processes for templates from requests."""
