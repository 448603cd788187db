"""Documents of the standards, shared by server and client."""
