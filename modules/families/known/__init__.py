"""The families, one small file each: facts, and where facts are not enough, a function that parses their calls."""
