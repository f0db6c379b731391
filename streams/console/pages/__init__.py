"""The pages of the console, a module each: what it shows, and what can be done on it."""
