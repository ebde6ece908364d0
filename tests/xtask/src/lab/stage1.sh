#!/bin/busybox sh
# The lab's first program: loads the modules, puts the outer host's files under a tmpfs overlay, lays what a Linux machine
# has over that, and hands over to the agent. What varies between labs is in /lab, written by the launcher.
bb=/bin/busybox
fail() {
    echo "lab: $*" >/dev/ttyS0
    $bb poweroff -f
}
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
for module in $($bb cat /modules/order); do
    $bb insmod "/modules/$module.ko" || fail "module $module was refused"
done
$bb mkdir -p /outer /cover /root
$bb mount -t virtiofs -o ro outer /outer || fail "the outer host's files cannot be mounted"
$bb mount -t tmpfs -o size=90%,mode=755 cover /cover
$bb mkdir /cover/upper /cover/work
# Links such as /lib are followed by every program that starts, and each time the outer host would be asked where they lead.
for link in /outer/*; do
    [ -L "$link" ] && $bb ln -s "$($bb readlink "$link")" "/cover/upper/${link#/outer/}"
done
$bb mount -t overlay -o lowerdir=/outer,upperdir=/cover/upper,workdir=/cover/work outer /root || fail "no overlay"
$bb mkdir -p /root/proc /root/sys /root/dev /root/run /root/tmp
for share in /lab/share*; do
    [ -e "$share" ] || continue
    $bb mount -t virtiofs "${share#/lab/}" "/root$($bb cat "$share")" || fail "${share#/lab/} cannot be mounted"
done
$bb mount --move /dev /root/dev
$bb mount --move /proc /root/proc
$bb mount -t sysfs sys /root/sys
$bb mount -t cgroup2 cgroup /root/sys/fs/cgroup
$bb mount -t tmpfs -o mode=755 run /root/run
$bb mkdir -p /root/dev/pts /root/dev/shm /root/dev/mqueue /root/run/lab /root/run/lock
$bb mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /root/dev/pts
$bb mount -t tmpfs -o mode=1777 shm /root/dev/shm
$bb mount -t mqueue mqueue /root/dev/mqueue
$bb ln -sf /proc/self/fd /root/dev/fd
$bb ln -sf /proc/self/fd/0 /root/dev/stdin
$bb ln -sf /proc/self/fd/1 /root/dev/stdout
$bb ln -sf /proc/self/fd/2 /root/dev/stderr
$bb chmod 666 /root/dev/kvm /root/dev/net/tun
$bb hostname lab
$bb ifconfig lo up
$bb cp /lab/parcel /root/run/lab/parcel
exec $bb switch_root /root "$($bb cat /lab/agent)" inside
