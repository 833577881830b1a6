"""The Parameters tab: sampling parameters, characters, instruction templates, grammars, banned strings."""
