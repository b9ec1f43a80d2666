#!/bin/sh
# Starts Ray on this machine, and replicas of the server in it, until Ctrl-C:
#     MASKSERVE_BASE=./encoder MASKSERVE_STORE=./masks deploy/ray/start.sh [serve.yaml] [options of serve run]
# On a cluster, set these variables for Ray itself (`ray start`, or the containers of KubeRay) on every node.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# HAProxy in the place of Serve's proxy, which is in Python and slower; the extra has its binary.
export RAY_SERVE_ENABLE_HA_PROXY=1
# Requests of a task go to one replica, by consistent hashing, and on to the next one while it has over 1.5 times
# its share of all. Paths without a task take turns.
export RAY_SERVE_HAPROXY_BALANCE_ALGORITHM="${RAY_SERVE_HAPROXY_BALANCE_ALGORITHM:-hash path,regsub(^/v2/models/,/hf/),regsub(^/v[12]/,/),field(3,/)
    hash-type consistent
    hash-balance-factor 150
    option http-buffer-request}"
# A request whose replica dies before it answers is sent to another one, if it was read whole (up to 16 KiB).
export RAY_SERVE_HAPROXY_RETRY_ON="${RAY_SERVE_HAPROXY_RETRY_ON:-conn-failure empty-response}"
# How long a replica that is to stop is still reached, while HAProxy learns it.
export RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="${RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S:-5}"
# While replicas start, all cores are taken: a proxy that is not up in 5 s would be killed and started again.
export RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S="${RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S:-60}"
# Ray lets everything else on the machine go before its workers, and HAProxy is a child of one.
export RAY_worker_niceness="${RAY_worker_niceness:-0}"

export PYTHONPATH="${here%/deploy/ray}${PYTHONPATH:+:$PYTHONPATH}"

[ $# -gt 0 ] || set -- "$here/serve.yaml"
exec serve run "$@"
