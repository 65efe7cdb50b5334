#!/bin/sh
# Says why the node did not reach its root, then reboots: the boot loader counts the try and, when a slot has used all of
# its tries, takes the other one.

READ_SECONDS=10 # for anyone who watches the console

echo "sheaf: this boot failed; the last errors were:"
journalctl --boot --priority=err --no-pager --output=cat --lines=20 2>/dev/null
echo "sheaf: rebooting in $READ_SECONDS s"
sleep "$READ_SECONDS"
exec reboot --force
