"""Access control: API keys and scopes, rate limits, budgets and detection of abnormal escalation rates."""
