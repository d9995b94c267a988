"""What is offered to a cluster: traces read, scaled in rate, or generated."""
