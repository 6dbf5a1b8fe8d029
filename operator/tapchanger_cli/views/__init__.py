"""What is drawn: pure functions from what was read, and the time in Unix seconds, to what rich draws."""
