#!/bin/sh
# Registers Corridor's search attributes and sets the retention of a namespace, on a cluster or Temporal Cloud.
# Run once per namespace, before the first worker: an upsert of an attribute that is not registered fails the
# workflow task. Registering what is there already is no error. Nothing personal goes into search attributes:
# they are stored and shown in clear. On Temporal Cloud the retention is set in the Cloud console instead.
#
#   TEMPORAL_ADDRESS=temporal:7233 TEMPORAL_NAMESPACE=payments infra/temporal/search-attributes.sh
set -eu

# The list is the code's; tests/unit/test_runtime_infra.py compares the two.
attributes="
PaymentStatus Keyword
Corridor Keyword
Provider Keyword
MerchantId Keyword
AmountMinor Int
NeedsReview Bool
SettleBy Datetime
"

printf '%s' "$attributes" | while read -r name type; do
    [ -n "$name" ] || continue
    temporal operator search-attribute create --name "$name" --type "$type"
done

# Explicit, because the default is short: keys and the audit trail are planned around this number of days.
temporal operator namespace update --namespace "${TEMPORAL_NAMESPACE:-default}" \
    --retention "${CORRIDOR_HISTORY_RETENTION_DAYS:-30}d"
