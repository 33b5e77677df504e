"""The relay: loops that move committed rows onward, to workflows, to the feed, to merchants and to the seal."""
