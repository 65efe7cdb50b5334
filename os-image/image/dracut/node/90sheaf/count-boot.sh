#!/bin/sh
# Counts this boot before the root is mounted, and gives its release up when three in a row were not found to work: a block of the root
# that dm-verity refuses, a panic, a hang restart the machine in the kernel, where nothing else would count it.
#
# The agent forgets the count when it has run for a while (agent/src/boots.rs). In: the kernel's arguments, one sector of the partition
# sig-a (release/src/records/boots.rs). Out: that sector; at the fourth boot a release that has no counter gets one without a try left,
# and the machine restarts: the boot loader takes the other slot, or the recovery. Whatever fails here, the boot goes on.

MOST=3      # boots in a row, as many as the boot loaders try a new release
PLACE=2040  # the sector

. /usr/lib/sheaf/boot-lib

hash=$(argument roothash)
[ -n "$hash" ] || exit 0
esp=$(esp_device) || exit 0
records=${esp%??}07
udevadm wait --timeout=10 "$records" || exit 0

# Keeps $1 as the count of this release.
keep() {
    text="SHEAF-BOOTS 1 $hash $1
"
    while [ ${#text} -lt $SECTOR ]; do text="$text#"; done
    printf %s "$text" | dd of="$records" bs=$SECTOR seek=$PLACE count=1 conv=notrunc,fsync 2>/dev/null
}

count=$(dd if="$records" bs=$SECTOR skip=$PLACE count=1 2>/dev/null |
    sed -n "s/^SHEAF-BOOTS 1 $hash \\([0-9][0-9]*\\)\$/\\1/p")
count=${count:-0}
if [ "$count" -ge $MOST ] &&
    give_counter 0 "was given up: $count boots in a row ended before it had run for 90 s; its root may be damaged"; then
    # The recovery may start it again.
    keep 0
    echo "sheaf: $count boots in a row ended before the node worked; another release is started"
    exec reboot --force
fi
keep $((count + 1))
