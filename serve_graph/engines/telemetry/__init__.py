"""What is told of a request while it is answered: its name in every process's log, and its spans."""
