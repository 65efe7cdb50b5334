#!/bin/sh
# Makes the read-only root a node of its own: finds the partitions of this very install, mounts state and data,
# binds /var, overlays /etc, keeps the machine-id, and writes /run/sheaf/boot.env for the agent.
#
# Why here: systemd of the node reads machine-id and units before it could run any of this.
# In: kernel arguments, EFI variables, the mounted /sysroot. Out: /sysroot/{state,data,var,etc}, /run/sheaf/*. A node whose
# state is lost still comes up, on a tmpfs, and says so.
set -u

ROOT=/sysroot
RUN=/run/sheaf
DEVICE_TIMEOUT=30 # seconds until a partition of the disk that root came from is given up

say() {
    echo "sheaf: $*"
}

# $1 (state, data) is lost: anyone who reports the node's health reads /run/sheaf/$1-degraded.
degrade() {
    say "DEGRADED: $2"
    echo "$2" >"$RUN/$1-degraded"
}

# The PARTUUID of the ESP we were booted from; it names the install (the last byte is the partition's number).
esp_partuuid() {
    # systemd-boot and systemd-stub: UTF-16 after four bytes of attributes.
    variable=/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
    if [ -r $variable ]; then
        od -An -v -tx1 -j4 -w2 $variable | while read -r low _; do
            [ "$low" = 00 ] || printf "\\$(printf %o "0x$low")"
        done | tr A-F a-f
        return
    fi
    # No UEFI: the boot loader's argument.
    sed -n 's/.*\bsheaf\.esp=\([0-9a-fA-F-]*\).*/\1/p' /proc/cmdline | tr A-F a-f
}

# Property of a block device in udev's database.
property() {
    udevadm info --query=property --property="$2" --value "$1" 2>/dev/null
}

# Where root's data lies: the first device under the verity mapping.
root_partition() {
    dm=$(readlink -f /dev/mapper/root)
    for slave in /sys/class/block/"${dm##*/}"/slaves/*; do
        node=/dev/${slave##*/}
        case $(property "$node" ID_PART_ENTRY_NAME) in
        root-*) echo "$node" && return ;;
        esac
    done
}

# Last byte of a PARTUUID replaced: partition number $2 of the same install as $1.
sibling() {
    echo "${1%??}$2"
}

mkdir -p $RUN
lost= # why the state partition is not mounted
root=$(root_partition)
esp=$(esp_partuuid)
if [ -n "$esp" ] && ! udevadm wait --timeout=$DEVICE_TIMEOUT "/dev/disk/by-partuuid/$(sibling "$esp" 09)"; then
    # Booted from elsewhere, over the network for one: the install that holds the root is the one.
    say "the boot loader's partition $esp has no state beside it"
    esp=
fi
[ -n "$esp" ] || esp=$(property "$root" ID_PART_ENTRY_UUID)
esp=$(sibling "$esp" 02)
state=/dev/disk/by-partuuid/$(sibling "$esp" 09)
data=/dev/disk/by-partuuid/$(sibling "$esp" 0a)

# Slot: whichever root of this install has the file system that root was mounted from.
root_uuid=$(property "$root" ID_FS_UUID)
slot=
for candidate in a:05 b:06; do
    partition=/dev/disk/by-partuuid/$(sibling "$esp" "${candidate#*:}")
    [ "$(property "$partition" ID_FS_UUID)" = "$root_uuid" ] && slot=${candidate%:*} && break
done
partition=$(readlink -f "$state")
disk=$(readlink -f "/sys/class/block/${partition##*/}/..")
disk=/dev/${disk##*/}

# Mounts an ext4 partition: as it is, else repaired. Its contents are never given up here.
mount_checked() {
    udevadm wait --timeout=$DEVICE_TIMEOUT "$1" || return 1
    e2fsck -p "$1"
    if [ $? -ge 4 ]; then
        say "$1 needs more than a journal replay, checking all of it"
        e2fsck -f -y "$1"
        [ $? -lt 4 ] || say "$1 could not be repaired"
    fi
    mount -t ext4 -o nodev,nosuid,noexec,noatime "$1" "$2"
}

# A reset that was asked for (release/src/records/reset.rs): the agent of the root erases state and data before they are mounted. One
# that fails is tried again at the next start.
reset_if_asked() {
    records=/dev/disk/by-partuuid/$(sibling "$esp" 07)
    dd if="$records" bs=4096 skip=128 count=1 2>/dev/null | grep -q '^SHEAF-RESET ' || return 0
    say "this node is being reset; do not switch it off"
    udevadm wait --timeout=$DEVICE_TIMEOUT "$state" "$data"
    # Not those below: what is mounted here is unmounted again.
    for folder in dev proc run sys; do mount --bind "/$folder" "$ROOT/$folder"; done
    chroot $ROOT /usr/bin/sheaf-agent reset-at-boot --install "$(sibling "$esp" 00)"
    failed=$?
    for folder in dev proc run sys; do umount "$ROOT/$folder"; done
    return $failed
}

if ! reset_if_asked; then
    # What is half erased must not be repaired from what is left of it.
    lost="the reset of this node failed and is tried again at the next start; \`sheaf-agent reset --cancel\` withdraws it"
elif ! mount_checked "$state" $ROOT/state; then
    lost="$state cannot be mounted; this node runs on memory until it is fixed or reinstalled"
fi
if [ -n "$lost" ]; then
    degrade state "$lost"
    mount -t tmpfs -o mode=0755,nodev,nosuid,noexec,size=25% sheaf-state $ROOT/state
    state=tmpfs
fi
# Data is there with root's own disk, so it costs least here; a node without it has no VMs, but an agent that says so.
[ "${failed:-0}" = 0 ] && mount_checked "$data" $ROOT/data || degrade data "$data cannot be mounted; VMs and images are out of reach"

# /var is the state's. What belongs in it is made by tmpfiles of the image, at every boot.
mkdir -p $ROOT/state/var
mount --bind $ROOT/state/var $ROOT/var

# machine-id: drawn once for an install.
id=$(cat $ROOT/state/machine-id 2>/dev/null)
case $id in
*[!0-9a-f]* | "") id= ;;
esac
if [ ${#id} -ne 32 ]; then
    id=$(tr -d - </proc/sys/kernel/random/uuid)
    echo "$id" >$ROOT/state/machine-id.new
    sync $ROOT/state/machine-id.new
    mv $ROOT/state/machine-id.new $ROOT/state/machine-id
    sync $ROOT/state
fi

# /etc: the image's below, memory above; rendered again at each boot.
mkdir -p $RUN/etc/upper $RUN/etc/work
chmod 0700 $RUN/etc
mount -t overlay -o "lowerdir=$ROOT/etc,upperdir=$RUN/etc/upper,workdir=$RUN/etc/work" sheaf-etc $ROOT/etc || exit 1
echo "$id" >$ROOT/etc/machine-id

cat >$RUN/boot.env <<END
SLOT=$slot
BOOT_DISK=$disk
INSTALL_ID=$(sibling "$esp" 00)
ESP_DEVICE=/dev/disk/by-partuuid/$esp
STATE_DEVICE=$state
DATA_DEVICE=$data
END
say "slot ${slot:-unknown} on $disk, state $state"
