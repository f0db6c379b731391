"""The whole product on one machine: who is in it, what happens, and what came of it."""
