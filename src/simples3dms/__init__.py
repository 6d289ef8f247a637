"""SimpleS3DMS: documents of many tenants, in the object storage that each of them chooses."""
