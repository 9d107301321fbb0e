"""Published methods as short files: what each measures, how it chooses, and where it departs from its paper."""
