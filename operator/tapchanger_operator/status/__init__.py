"""What is told to people: conditions, sentences and the status that the next pass reads. Conditions are made here only."""
