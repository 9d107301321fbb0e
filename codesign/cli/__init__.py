"""The command line: one thin command per job, tables and progress for people, `--json` for machines."""
