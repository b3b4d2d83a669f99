"""One question in one replica: batching, caching, deadlines, and the model that is live."""
