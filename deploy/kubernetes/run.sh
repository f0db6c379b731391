#!/usr/bin/env bash
# Runs a command in a pod of its own, prints what it prints, and ends with 0 when it succeeded.
#
#   deploy/kubernetes/run.sh contactstream status        # the namespace, then the command
#   deploy/kubernetes/run.sh contactstream replay events --since 36h --execute
set -euo pipefail

(($# >= 2)) || { echo "usage: run.sh NAMESPACE COMMAND [ARGUMENT ...]" >&2; exit 2; }
namespace=$1
shift
# Until the image is on the node and the command runs.
START=--timeout=300s

in_namespace=(kubectl --namespace "$namespace")
quoted=("${@//\\/\\\\}")
printf -v args '"%s",' "${quoted[@]//\"/\\\"}"
job=contactstream-run-$(date +%s)
"${in_namespace[@]}" create job "$job" --from=cronjob/contactstream-operator --dry-run=client \
  --output yaml |
  kubectl patch --local --filename - --type json --output yaml --patch \
    "[{\"op\": \"replace\", \"path\": \"/spec/template/spec/containers/0/args\",
      \"value\": [${args%,}]}]" |
  "${in_namespace[@]}" create --filename -
"${in_namespace[@]}" wait pod --selector "job-name=$job" --for=create "$START" >/dev/null
"${in_namespace[@]}" logs "job/$job" --follow --pod-running-timeout="${START#*=}"
until result=$("${in_namespace[@]}" get job "$job" \
  --output 'jsonpath={.status.conditions[?(@.status=="True")].type}') &&
  [[ $result =~ Complete|Failed ]]; do
  sleep 1  # its container has ended, or was never started
done
[[ $result =~ Complete ]]
