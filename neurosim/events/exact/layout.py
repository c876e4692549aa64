"""Where the integers of a simulation's state `numbers` are."""

BUCKET, CURSOR, STARTED, FIRED, KEPT, LISTED, EVENTS, DRIVEN, SAMPLES = range(9)
