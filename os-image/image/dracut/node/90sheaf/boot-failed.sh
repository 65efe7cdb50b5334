#!/bin/sh
# Says why the node did not reach its root, makes the boot loader count it, then reboots: when a slot has used all of its
# tries, the boot loader takes the other one, and when both have, the recovery.
#
# Why it counts: a release that was found good has no counter any more, and the boot loader would always start it again. In: the
# kernel's arguments, EFI variables, the EFI system partition. Out: a counter of three tries of which one is used, on UEFI in the
# name of the UKI, on BIOS in grub/grubenv; one that is there already is the boot loader's to count down.

READ_SECONDS=10 # for anyone who watches the console
ESP=/run/sheaf/esp
STATE=/run/sheaf/state
SECTOR=512

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

# systemd-boot: the entry's id is the name of its file without a counter.
count_by_name() {
    uki=$ESP/EFI/Linux/$(loader_variable LoaderEntrySelected)
    case $uki in
    *+*) return ;;
    */sheaf_*.efi) ;;
    *) return ;;
    esac
    if [ -f "$uki" ]; then
        mv "$uki" "${uki%.efi}+2-1.efi" && echo "sheaf: ${uki##*/} has two tries left"
    fi
}

# GRUB: the slot whose script has the root hash of this boot; its variable in the first sector of grubenv, in place.
count_by_variable() {
    file=$ESP/grub/grubenv
    hash=$(argument roothash)
    [ -f "$file" ] && [ -n "$hash" ] || return
    for slot in a b; do
        grep -q "roothash=$hash" "$ESP/grub/$slot.cfg" 2>/dev/null || continue
        grep -q "^${slot}_left=" "$file" && continue
        # The dot keeps the last end of line.
        text=$(echo "# GRUB Environment Block" && sed -n '/^[a-z_]*=/p' "$file" && echo "${slot}_left=2" && echo .)
        text=${text%.}
        while [ ${#text} -lt $SECTOR ]; do text="$text#"; done
        printf %s "$text" | dd of="$file" bs=$SECTOR count=1 conv=notrunc,fsync 2>/dev/null &&
            echo "sheaf: slot $slot has two tries left"
    done
}

count() {
    esp=$(loader_variable LoaderDevicePartUUID || argument sheaf.esp)
    device=/dev/disk/by-partuuid/$(echo "$esp" | tr A-F a-f)
    [ -n "$esp" ] && udevadm wait --timeout=10 "$device" || return
    mkdir -p $ESP
    mount -t vfat -o nodev,nosuid,noexec,umask=0077 "$device" $ESP || return
    if [ -d /sys/firmware/efi ]; then count_by_name; else count_by_variable; fi
    sync
    umount $ESP
    # The agent was at rest with this release, and would not look at its counter.
    mkdir -p $STATE
    mount -t ext4 -o nodev,nosuid,noexec "${device%??}09" $STATE || return
    rm -f $STATE/update/slots.json
    umount $STATE
}

echo "sheaf: this boot failed; the last errors were:"
journalctl --boot --priority=err --no-pager --output=cat --lines=20 2>/dev/null
count
echo "sheaf: rebooting in $READ_SECONDS s"
sleep "$READ_SECONDS"
exec reboot --force
