"""What outlives a request, in engines that are not ours: today the features of entities, in Redis."""
