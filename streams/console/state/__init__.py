"""What the console knows from the topics: read once to their ends, and then kept current."""
