"""What the servers of the page and of the API share: access rules, logins, limits, ports."""
