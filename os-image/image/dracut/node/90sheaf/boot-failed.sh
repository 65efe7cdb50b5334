#!/bin/sh
# Says why the node did not reach its root, makes the boot loader count it, then reboots: when a slot has used all of its
# tries, the boot loader takes the other one, and when both have, the recovery.
#
# In: the journal; what boot-lib reads. Out: a counter of three tries of which one is used.

READ_SECONDS=10 # for anyone who watches the console

. /usr/lib/sheaf/boot-lib

echo "sheaf: this boot failed; the last errors were:"
journalctl --boot --priority=err --no-pager --output=cat --lines=20 2>/dev/null
give_counter 2 ""
echo "sheaf: rebooting in $READ_SECONDS s"
sleep "$READ_SECONDS"
exec reboot --force
