"""What is to be done, from what was seen and the time: pure, so that every decision can be tabled and replayed."""
