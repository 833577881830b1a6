"""Components that several tabs use: events, menus, lists, formatting. They know no tab."""
