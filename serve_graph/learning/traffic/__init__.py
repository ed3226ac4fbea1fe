"""Traffic without labels: windows of what a version decided, compared with its first; a difference is a ticket."""
