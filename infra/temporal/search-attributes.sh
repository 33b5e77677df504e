#!/bin/sh
# Registers Corridor's search attributes and sets the retention of a namespace, on a cluster or Temporal Cloud.
# Run once per namespace, before the first worker: an upsert of an attribute that is not registered fails the
# workflow task. Registering what is there already is no error. Nothing personal goes into search attributes:
# they are stored and shown in clear.
#
#   TEMPORAL_ADDRESS=temporal:7233 TEMPORAL_NAMESPACE=payments infra/temporal/search-attributes.sh
#
# Temporal Cloud does both through its own control plane: for an address there the commands are printed, not run.
set -eu

namespace="${TEMPORAL_NAMESPACE:-default}"
days="${CORRIDOR_HISTORY_RETENTION_DAYS:-30}"

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

each() {
    printf '%s' "$attributes" | while read -r name type; do
        [ -n "$name" ] || continue
        "$1" "$name" "$type"
    done
}

register() { temporal operator search-attribute create --name "$1" --type "$2"; }
tell() { printf ' --search-attribute "%s=%s"' "$1" "$2"; }

case "${TEMPORAL_ADDRESS:-}" in
*.tmprl.cloud:* | *.temporal.io:*)
    echo "Temporal Cloud: nothing was changed. Run these, logged in with tcld:"
    echo "tcld namespace search-attributes add --namespace $namespace$(each tell)"
    echo "tcld namespace retention set --namespace $namespace --retention-days $days"
    exit 0
    ;;
esac

# A server that answers may still be making its first namespace.
tries=0
until temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge "${NAMESPACE_TRIES:-60}" ]; then
        echo "no namespace $namespace at ${TEMPORAL_ADDRESS:-the default address}; nothing was changed." >&2
        echo "Make it (temporal operator namespace create --namespace $namespace) and run this again." >&2
        exit 1
    fi
    sleep 1
done

each register

# Explicit, because the default is short: keys and the audit trail are planned around this number of days.
temporal operator namespace update --namespace "$namespace" --retention "${days}d"
