"""The schema of the database, and how it is opened."""
