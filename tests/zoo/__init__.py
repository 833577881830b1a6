"""Small random models of many architectures, and typical use of them. Their text is nonsense; what counts is that the
same prompt gives the same nonsense, whatever was read before.
"""
