#!/usr/bin/env bash
# Applies an overlay in an order that is safe for an upgrade, and waits for each part.
#
#   deploy/kubernetes/rollout.sh deploy/kubernetes/overlays/production
#
# First what the stages need and the topics, then the stages against the flow, so that whoever reads
# a topic is replaced before whoever writes to it. It ends with 1 at the first part that does not
# become ready. Run it with the overlay of before to take the upgrade back.
set -euo pipefail

(($# == 1)) || { echo "usage: rollout.sh OVERLAY" >&2; exit 2; }

# For each part. A pod has 2 minutes to start, and each pod of dedupe waits for the one before.
WAIT=--timeout=600s
COMPONENT=app.kubernetes.io/component

rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
kubectl kustomize "$1" >"$rendered"
namespace=$(sed -n 's/^  namespace: //p' "$rendered" | sort -u)
[[ $namespace =~ ^[a-z0-9-]+$ ]] || { echo "$1 has to name one namespace" >&2; exit 2; }
in_namespace=(kubectl --namespace "$namespace")

apply() { kubectl apply --filename "$rendered" --selector "$1"; }

apply "$COMPONENT notin (topics, sink, dedupe, reader, bridge, console)"
if grep -q '^  name: contactstream-topics$' "$rendered"; then
  # A Job cannot be changed.
  "${in_namespace[@]}" delete job contactstream-topics --ignore-not-found
  apply "$COMPONENT in (topics)"
  result=
  # It ends by itself: activeDeadlineSeconds.
  until [[ $result =~ Complete|Failed ]]; do
    sleep 2
    result=$("${in_namespace[@]}" get job contactstream-topics \
      --output 'jsonpath={.status.conditions[?(@.status=="True")].type}')
  done
  "${in_namespace[@]}" logs job/contactstream-topics --tail=20
  [[ $result =~ Complete ]] || { echo "the topics could not be created" >&2; exit 1; }
fi
for workload in deployment/sink statefulset/dedupe deployment/reader deployment/bridge \
  deployment/console; do
  apply "$COMPONENT in (${workload#*/})"
  "${in_namespace[@]}" rollout status "${workload%/*}/contactstream-${workload#*/}" "$WAIT"
done
