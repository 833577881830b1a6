"""Plans which part of a model goes to which device, how much memory it takes there, and how fast it will be."""
