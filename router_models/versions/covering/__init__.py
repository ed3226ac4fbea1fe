"""What a certificate covers of a table, what measures a text for that, and the attacks that its limits stand up to."""
