"""What is built once when a server or a job process starts."""
