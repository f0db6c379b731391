#!/usr/bin/env bash
# Runs a command in a pod of its own, prints what it prints, and ends with 0 when it succeeded.
#
#   deploy/kubernetes/run.sh contactstream status        # the namespace, then the command
#   deploy/kubernetes/run.sh contactstream replay events --since 36h --execute
set -euo pipefail

(($# >= 2)) || { echo "usage: run.sh NAMESPACE COMMAND [ARGUMENT ...]" >&2; exit 2; }
namespace=$1
shift
# Until the pod has a node, and the node the image.
START_SECONDS=300

in_namespace=(kubectl --namespace "$namespace")
quoted=("${@//\\/\\\\}")
printf -v args '"%s",' "${quoted[@]//\"/\\\"}"
job=contactstream-run-$(date +%s)
"${in_namespace[@]}" create job "$job" --from=cronjob/contactstream-operator --dry-run=client \
  --output yaml |
  kubectl patch --local --filename - --type json --output yaml --patch \
    "[{\"op\": \"replace\", \"path\": \"/spec/template/spec/containers/0/args\",
      \"value\": [${args%,}]}]" |
  "${in_namespace[@]}" create --filename - >&2

phase=
until [[ $phase =~ Running|Succeeded|Failed ]]; do
  ((SECONDS < START_SECONDS)) ||
    { echo "it does not start: kubectl -n $namespace describe job $job" >&2; exit 1; }
  sleep 1
  phase=$("${in_namespace[@]}" get pods --selector "job-name=$job" \
    --output 'jsonpath={.items[*].status.phase}')
done
"${in_namespace[@]}" logs "job/$job" --follow
result=
until [[ $result =~ Complete|Failed ]]; do  # the command has ended, or the connection was lost
  sleep 1
  result=$("${in_namespace[@]}" get job "$job" \
    --output 'jsonpath={.status.conditions[?(@.status=="True")].type}')
done
[[ $result =~ Complete ]]
