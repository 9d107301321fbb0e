"""Number formats of weights: level sets, codes, row formats, assignments of them to rows."""
