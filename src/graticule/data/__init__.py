"""Reading what lies elsewhere: the guarded client, readers and storages."""
