"""The bulk form of Segment's Object API: uploads on disk, and their way into the journal."""
