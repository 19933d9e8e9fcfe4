"""Reports: matrices, effects, funnels, actives. They read counters, so asking costs the same whatever was seen."""
