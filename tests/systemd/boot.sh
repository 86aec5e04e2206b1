#!/bin/sh
# Makes systemd the first process of namespaces of its own, over folders of its own: BASE stands for what it may write.
# It finds no other units than those below BASE, so that nothing of the machine is started, set or mounted anew.
set -eu
BASE=$1
MENTIKO=$2
MENTIKO_EXEC=$3

if [ "${4-}" != inside ]; then
    # A cgroup of its own, which it will take for the root of all.
    mount --make-rprivate /
    mount -t cgroup2 cgroup2 "$BASE/cgroup"
    mkdir "$BASE/cgroup/$(basename "$BASE")"
    echo $$ >"$BASE/cgroup/$(basename "$BASE")/cgroup.procs"
    exec unshare --fork --kill-child --pid --mount --cgroup --uts --ipc --mount-proc \
        "$0" "$BASE" "$MENTIKO" "$MENTIKO_EXEC" inside
fi

umount "$BASE/cgroup"
mount --bind -o ro /proc/sys /proc/sys
umount --recursive /sys
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs "$BASE/dev"
mkdir "$BASE/dev/shm" "$BASE/dev/pts"
chmod 1777 "$BASE/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$BASE/dev/pts"
ln -s pts/ptmx "$BASE/dev/ptmx"
for node in null zero full random urandom tty; do
    touch "$BASE/dev/$node"
    mount --bind "/dev/$node" "$BASE/dev/$node"
done
# What systemd has to say to the machine's console.
touch "$BASE/dev/console"
mount --bind "$BASE/console" "$BASE/dev/console"

mount --bind "$MENTIKO" "$BASE/usr/local/bin/mentiko"
mount --bind "$MENTIKO_EXEC" "$BASE/usr/local/bin/mentiko-exec"
mount --rbind "$BASE/usr/local/bin" /usr/local/bin
mount --rbind "$BASE/dev" /dev
mount -t tmpfs -o mode=755 tmpfs /run
for folder in etc var tmp; do
    mount --bind "$BASE/$folder" "/$folder"
done
cd /
# In a container, systemd leaves this to whoever made it; credentials are mounted from a namespace of their own.
mount --make-rshared /
exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin container=mentiko-tests \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/transient:/run/systemd/system \
    SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
