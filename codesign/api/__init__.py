"""What `import codesign` gives: a function for each job, and its frozen answer; `codesign.cli` prints answers."""
