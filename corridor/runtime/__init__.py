"""What a running process needs: settings, keys, the Temporal client, telemetry, and the embedded stack."""
