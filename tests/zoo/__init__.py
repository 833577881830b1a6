"""Small random models of many architectures, and what a user does with them. They say nonsense; what counts is that
the same prompt gives the same nonsense, whatever was read before."""
