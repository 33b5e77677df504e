"""Disaster recovery: what was lost is rebuilt from what was kept."""
