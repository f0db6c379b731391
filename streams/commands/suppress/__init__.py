"""The commands suppress and export: a person is erased, or gets to know what is held."""
