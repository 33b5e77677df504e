"""What requests may contain and what answers look like: the source of the OpenAPI document."""
