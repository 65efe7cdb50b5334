#!/bin/sh
# Functions of boot-failed and count-boot: give the release of this boot a counter, where the boot loader keeps it.
#
# Why here: a release that was found good has no counter any more, and the boot loader would always start it again. In: the kernel's
# arguments, EFI variables, the EFI system partition. Out: a counter, on UEFI in the name of the UKI, on BIOS in grub/grubenv; one that
# is there already is the boot loader's to count down.

ESP=/run/sheaf/esp
STATE=/run/sheaf/state
SECTOR=512
TRIES=3

# Text of systemd-boot's variable $1: UTF-16 after four bytes of attributes.
loader_variable() {
    variable=/sys/firmware/efi/efivars/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
    [ -r "$variable" ] || return 1
    od -An -v -tx1 -j4 -w2 "$variable" | while read -r low _; do
        [ "$low" = 00 ] || printf "\\$(printf %o "0x$low")"
    done
}

# Value of the kernel argument $1.
argument() {
    sed -n "s/.*\\b$1=\\([0-9a-fA-F-]*\\).*/\\1/p" /proc/cmdline
}

# Prints the EFI system partition of the boot loader, once it is there. Its siblings have another last byte.
esp_device() {
    esp=$(loader_variable LoaderDevicePartUUID || argument sheaf.esp)
    device=/dev/disk/by-partuuid/$(echo "$esp" | tr A-F a-f)
    [ -n "$esp" ] && udevadm wait --timeout=10 "$device" && echo "$device"
}

# systemd-boot: the entry's id is the name of its file without a counter. $1: tries that are left.
count_by_name() {
    uki=$ESP/EFI/Linux/$(loader_variable LoaderEntrySelected)
    case $uki in
    *+*) return 1 ;;
    */sheaf_*.efi) ;;
    *) return 1 ;;
    esac
    [ -f "$uki" ] && mv "$uki" "${uki%.efi}+$1-$((TRIES - $1)).efi" && counted=${uki##*/}
}

# GRUB: the slot whose script has the root hash of this boot; its variable in the first sector of grubenv, in place. $1: tries that
# are left.
count_by_variable() {
    file=$ESP/grub/grubenv
    hash=$(argument roothash)
    [ -f "$file" ] && [ -n "$hash" ] || return 1
    for slot in a b; do
        grep -q "roothash=$hash" "$ESP/grub/$slot.cfg" 2>/dev/null || continue
        grep -q "^${slot}_left=" "$file" && continue
        # The dot keeps the last end of line.
        text=$(echo "# GRUB Environment Block" && sed -n '/^[a-z_]*=/p' "$file" && echo "${slot}_left=$1" && echo .)
        text=${text%.}
        while [ ${#text} -lt $SECTOR ]; do text="$text#"; done
        printf %s "$text" | dd of="$file" bs=$SECTOR count=1 conv=notrunc,fsync 2>/dev/null && counted="slot $slot"
    done
    [ -n "$counted" ]
}

# Gives this boot's release $1 tries, if it has no counter. $2 is kept, to be reported.
give_counter() {
    counted=
    device=$(esp_device) || return 1
    mkdir -p $ESP
    mount -t vfat -o nodev,nosuid,noexec,umask=0077 "$device" $ESP || return 1
    if [ -d /sys/firmware/efi ]; then count_by_name "$1"; else count_by_variable "$1"; fi
    sync
    umount $ESP
    [ -n "$counted" ] || return 1
    echo "sheaf: $counted has $1 tries left"
    # The agent was at rest with this release, and would not look at its counter.
    mkdir -p $STATE
    if mount -t ext4 -o nodev,nosuid,noexec "${device%??}09" $STATE; then
        rm -f $STATE/update/slots.json
        if [ -n "$2" ]; then
            mkdir -p $STATE/update
            echo "$counted $2" >$STATE/update/given-up
        fi
        umount $STATE
    fi
    return 0
}
