"""Legal holds and retention: what keeps a document, whoever wants it gone."""
