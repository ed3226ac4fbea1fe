"""The page of what is promised: the certificate, its counts, and the deferral curve of the report."""
