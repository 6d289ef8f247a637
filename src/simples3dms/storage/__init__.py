"""Where bytes are: stores and their credentials, placement, blobs and replicas, transfers, migrations, upkeep."""
