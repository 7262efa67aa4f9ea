#!/usr/bin/env bash
# Start or stop a SLURM of one node on this machine, for tests/test_cluster.py. Needs root and
# Debian's packages slurm-wlm and munge.
#
#     tests/slurm.sh start DIR    # prints SLURM_CONF=..., to be put into the environment
#     tests/slurm.sh stop DIR
set -euo pipefail
action=$1 dir=$2
if [ "$action" = stop ]; then
    for daemon in slurmd slurmctld; do
        if [ -s "$dir/$daemon.pid" ]; then kill "$(cat "$dir/$daemon.pid")" || true; fi
    done
    exit 0
fi

mkdir -p "$dir/state" "$dir/spool" /run/munge
if [ ! -s /etc/munge/munge.key ]; then
    mkdir -p /etc/munge
    dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
fi
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
chmod 0400 /etc/munge/munge.key
munge -n >/dev/null 2>&1 || setpriv --reuid=munge --regid=munge --init-groups munged --force

cat >"$dir/slurm.conf" <<CONF
ClusterName=tests
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MailProg=/bin/true
KillWait=5
MinJobAge=3600
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$dir/slurm.conf
slurmctld
slurmd
for _ in $(seq 60); do
    if sinfo --noheader --format %T 2>/dev/null | grep -q idle; then
        echo "SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 1
done
echo "slurm.sh: the node is not idle after a minute; see $dir/*.log" >&2
exit 1
