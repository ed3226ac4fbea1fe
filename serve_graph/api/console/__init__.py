"""The console: pages for people at `/console`, made on the server, for keys with the scope `admin`."""
