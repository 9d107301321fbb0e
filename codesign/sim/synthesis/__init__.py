"""Resources and clock: synthesis, composition, prediction, place and route."""
