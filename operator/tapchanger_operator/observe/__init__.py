"""What is: everything a pass needs, read once and put into one frozen snapshot. The only room that reads."""
