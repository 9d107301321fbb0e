"""Running jobs and keeping what they made."""
